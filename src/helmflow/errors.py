"""Errors a user can act on: one line, naming the field, what was expected and what came."""


class InputError(ValueError):
    """A mistake in something the user supplied.

    The message reads ``field: expected ..., got ...``; the command line prints it as it stands
    and exits with code 2.
    """

    def __init__(self, field: str, expected: str, got: object) -> None:
        super().__init__(f"{field}: expected {expected}, got {got}")
        self.field = field


class EnergyError(RuntimeError):
    """An energy that cannot be used: a calculator failed or returned NaN."""


class ConvergenceError(RuntimeError):
    """An iteration that did not converge; ``last`` is the value it stopped at."""

    def __init__(self, message: str, last: float) -> None:
        super().__init__(message)
        self.last = last
