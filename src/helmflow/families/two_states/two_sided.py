"""Works of samples from both sides, and everything that is estimated from them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from helmflow.errors import InputError
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.bar import bar
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.fep import fep
from helmflow.skeleton.checks import rounding
from helmflow.skeleton.convergence import convergence
from helmflow.skeleton.quantity import Quantity

Array = np.ndarray
BLOCKS = 4
ENOUGH_FOR_BLOCKS = 40


@dataclass(frozen=True)
class Works:
    """Works w_F (n,) of samples of A and w_R (m,) of samples of B, in time order, kT.

    ``times``: how often each frame of A and of B is there, which multiplies ``g``.
    """

    forward: Array
    reverse: Array
    times: tuple[float, ...] = (1.0, 1.0)

    @property
    def g(self) -> tuple[float, float]:
        """Statistical inefficiencies of both series."""
        forward, reverse = inefficiency(self.forward), inefficiency(self.reverse)
        return forward * self.times[0], reverse * self.times[1]

    def bar(self, method: str = "bar") -> Estimate:
        """Bennett's estimate of f_B - f_A, errors for the series' own correlation."""
        return replace(bar(self.forward, self.reverse, g=self.g), method=method)

    def sides(self, suffix: str = "") -> tuple[Estimate, Estimate]:
        """Perturbation from A and from B, both as f_B - f_A."""
        g = self.g
        up, down = fep(self.forward, g=g[0]), fep(self.reverse, g=g[1])
        return (
            replace(up, method=f"fep from A{suffix}"),
            replace(down, value=-down.value, method=f"fep from B{suffix}"),
        )

    def part(self, start: float, stop: float) -> "Works":
        """The samples between two fractions of each series."""
        sides = (_cut(side, start, stop) for side in (self.forward, self.reverse))
        return Works(*sides, times=self.times)

    def blocks(self) -> list[Estimate]:
        """Bennett's estimate of each quarter of the samples; empty when there are too few."""
        if min(self.forward.size, self.reverse.size) < ENOUGH_FOR_BLOCKS:
            return []
        parts = [self.part(k / BLOCKS, (k + 1) / BLOCKS) for k in range(BLOCKS)]
        if any(not np.isfinite(side).any() for p in parts for side in (p.forward, p.reverse)):
            return []
        return [part.bar() for part in parts]

    def convergence(self, quantity: Quantity) -> Mapping[str, Array]:
        """Arrays for the report: the estimate from growing parts, from the start and the end."""
        if min(self.forward.size, self.reverse.size) < ENOUGH_FOR_BLOCKS:
            return {}
        return convergence(self._bar_or_nothing, quantity)

    def _bar_or_nothing(self, start: float, stop: float) -> Estimate:
        part = self.part(start, stop)
        if not (np.isfinite(part.forward).any() and np.isfinite(part.reverse).any()):
            return Estimate(np.nan, np.nan, np.nan, "bar")
        return part.bar()


def inefficiency(series: Array) -> float:
    """g = 2 tau_int of works; infinite ones count as the largest finite one."""
    finite = np.isfinite(series)
    if series.size < 4 or not finite.any():
        return 1.0
    # Beyond this many kT from the median a work decides nothing but its own weight.
    middle = np.median(series[finite])
    found = integrated_autocorrelation(np.clip(series, middle - 1e3, middle + 1e3))
    return found.g if math.isfinite(found.g) else 1.0  # equal works have no error to widen


def deviation_of_means(a: Array, b: Array) -> float:
    """Difference of the means of two series in standard errors; 0 for mere rounding."""
    a, b = (side[np.isfinite(side)] for side in (a, b))
    scale = np.sqrt(sum(inefficiency(s) * s.var(ddof=1) / s.size for s in (a, b)))
    off = abs(float(a.mean() - b.mean()))
    if off <= rounding(max(abs(float(a.mean())), abs(float(b.mean())))):
        return 0.0
    return off / float(scale) if scale > 0.0 else np.inf


def usable(w_F: Array, w_R: Array, times: tuple[float, ...] = (1.0, 1.0)) -> Works:
    """Works of both sides; raises ``InputError`` when a side has no finite one."""
    for side, works in (("A", w_F), ("B", w_R)):
        if not np.isfinite(works).any():
            raise InputError(
                f"samples of {side}", "a finite energy in the other state", "none at all"
            )
    return Works(np.asarray(w_F, dtype=np.float64), np.asarray(w_R, dtype=np.float64), times)


def _cut(series: Array, start: float, stop: float) -> Array:
    low, high = round(start * series.size), round(stop * series.size)
    return series[low : max(high, low + 2)]
