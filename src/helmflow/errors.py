"""Errors a user can act on: one line, naming the field, what was expected and what came."""

LONGEST = 400
"""Characters of a message that say what came; an array would fill pages."""


class InputError(ValueError):
    """A mistake in something the user supplied.

    The message reads ``field: expected ..., got ...``; the command line prints it as it stands
    and exits with code 2. What came is cut short where it is long, and is always one line.
    """

    def __init__(self, field: str, expected: str, got: object) -> None:
        super().__init__(f"{field}: expected {expected}, got {_short(got)}")
        self.field = field


class EnergyError(RuntimeError):
    """An energy that cannot be used: a calculator failed or returned NaN."""


class ConvergenceError(RuntimeError):
    """An iteration that did not converge; ``last`` is the value it stopped at."""

    def __init__(self, message: str, last: float) -> None:
        super().__init__(message)
        self.last = last


def _short(got: object) -> str:
    text = " ".join(str(got).splitlines())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
