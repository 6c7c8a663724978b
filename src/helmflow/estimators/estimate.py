"""A number with its error: what every estimator returns."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


def format_uncertainty(value: float, stderr: float) -> str:
    """Compact value and standard error, the error in units of the last digit shown.

    ``format_uncertainty(-25.163092, 6.1e-5) == "-25.16309(6)"``. The error has one significant
    digit, two if the first is a 1. Errors above 1 that need decimals are written out
    (``12.3(1.2)``); a zero, infinite, undefined or absurd error is written
    ``value ± error``.
    """
    resolved = math.isfinite(value) and 1e-15 * abs(value) < stderr < 1e15
    if not resolved:
        return f"{value:.10g} ± {stderr:.2g}"
    exponent = math.floor(math.log10(stderr))
    leading = stderr / 10.0**exponent
    decimals = -exponent + (1 if leading < 1.95 else 0)
    if decimals <= 0:
        return f"{value:.0f}({stderr:.0f})"
    if stderr >= 1.0:
        return f"{value:.{decimals}f}({stderr:.{decimals}f})"
    return f"{value:.{decimals}f}({round(stderr * 10**decimals)})"


@dataclass(frozen=True)
class Estimate:
    """An estimated number and its standard error.

    ``value`` and ``stderr`` (one standard error, autocorrelation included) are in ``unit``, by
    default kT; free-energy differences are f_B - f_A. ``n_eff`` is the effective number of
    samples behind the number, ``method`` the estimator, ``diagnostics`` what it says about
    itself (absent keys could not be determined).
    """

    value: float
    stderr: float
    n_eff: float
    method: str
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    unit: str = "kT"

    def __str__(self) -> str:
        number = format_uncertainty(self.value, self.stderr)
        return " ".join(part for part in (number, self.unit, f"({self.method})") if part)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Difference of two statistically independent estimates, errors in quadrature."""
        return Estimate(
            value=self.value - other.value,
            stderr=math.hypot(self.stderr, other.stderr),
            n_eff=min(self.n_eff, other.n_eff),
            method=self.method if self.method == other.method else f"{self.method}-{other.method}",
            unit=self.unit,
        )


def known(diagnostics: Mapping[str, float]) -> dict[str, float]:
    """The diagnostics that could be determined: those that are not NaN."""
    return {name: float(x) for name, x in diagnostics.items() if not math.isnan(x)}
