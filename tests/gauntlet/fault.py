"""Planted faults: what is run, what came of it, and its line in the table."""

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from helmflow import Estimate, InputError, Result
from helmflow.errors import ConvergenceError, EnergyError

LONGEST = 60
"""Processor seconds after which a run counts as one that never ends."""

BARS = 4.0
"""Error bars beyond which a number with a good grade is wrong."""

Answer = Result | Sequence[Estimate]
"""What a user gets: a graded result, or estimates of independent data, which have no grade."""


@dataclass(frozen=True)
class Fault:
    """One mistake of a user, or of this package.

    ``run(folder, patch)``: what a user would have called. ``exact``: the right number; None where
    no number is right. ``bars``: error bars that may lie between both, of several estimates their
    root mean square. ``invisible``: why no check can see it, and how often it stays hidden.
    """

    family: str
    name: str
    run: Callable[[Path, pytest.MonkeyPatch], Answer]
    exact: float | None = None
    bars: float = BARS
    invisible: str = ""

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


@dataclass(frozen=True)
class Row:
    """What came of a fault: distance from the right number in error bars, grade, what fired."""

    fault: Fault
    bars: float
    grade: str
    fired: str

    @property
    def passed_for_right(self) -> bool:
        """Whether a wrong number came with a good grade, or without any."""
        return self.grade in ("A", "B", "-") and not self.bars <= self.fault.bars

    @property
    def broken(self) -> bool:
        """Whether the answer was a traceback; one that never ends is no wrong number."""
        return self.grade == "traceback"

    def __str__(self) -> str:
        bars = "" if math.isnan(self.bars) else f"{self.bars:.3g}"
        verdict = "WRONG" if self.passed_for_right or self.broken else ""
        if self.fault.invisible:
            verdict = "invisible"
        return (
            f"| {self.fault.family:<10} | {self.fault.name:<44} | {bars:>8} | {self.grade:<9} "
            f"| {verdict:<9} | {self.fired[:76]:<76} |"
        )


HEADER = (
    f"| {'family':<10} | {'fault':<44} | {'bars':>8} | {'grade':<9} | {'':<9} "
    f"| {'what fired':<76} |\n|{'-' * 12}|{'-' * 46}|{'-' * 9}:|{'-' * 11}|{'-' * 11}|{'-' * 78}|"
)


def attempt(fault: Fault, folder: Path, patch: pytest.MonkeyPatch) -> Row:
    """Run a fault; every way in which it can end is a row."""
    try:
        with time_limit(LONGEST):
            answer = fault.run(folder, patch)
    except (InputError, EnergyError, ConvergenceError) as error:
        return Row(fault, math.nan, "refused", str(error))
    except TimeoutError:
        return Row(fault, math.nan, "no end", f"after {LONGEST} s")
    except Exception as error:  # noqa: BLE001 - a traceback is one of the findings
        return Row(fault, math.nan, "traceback", f"{type(error).__name__}: {error}")
    if isinstance(answer, Result):
        failed = [check for check in answer.checks if not check.passed]
        fired = ", ".join(f"{check.name} {check.value:.3g}" for check in failed)
        bars = distance(answer.value, answer.stderr, fault.exact)
        return Row(fault, bars, answer.grade, fired or answer.reason)
    bars = [distance(e.value, e.stderr, fault.exact) for e in answer]
    n_eff = np.median([e.n_eff for e in answer])
    return Row(fault, math.sqrt(np.mean(np.square(bars))), "-", f"n_eff {n_eff:.3g}")


def distance(value: float, stderr: float, exact: float | None) -> float:
    """Error bars between a number and the right one; infinite where there is none."""
    if exact is None or not math.isfinite(value):
        return math.inf
    off = abs(value - exact)
    if off <= 1e-9 * (1.0 + abs(exact)):
        return 0.0
    return off / stderr if stderr > 0.0 else math.inf


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the main thread after so many seconds of processor time."""

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
