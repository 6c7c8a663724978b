"""Monotone rational-quadratic splines: on an interval, on the line, on the circle.

With ``xi = (x - x0)/(x1 - x0)``, ``s = (y1 - y0)/(x1 - x0)`` and knot slopes d0, d1, a bin maps

    y  = y0 + (y1 - y0) (s xi^2 + d0 xi (1 - xi)) / (s + (d0 + d1 - 2 s) xi (1 - xi))
    y' = s^2 (d1 xi^2 + 2 s xi (1 - xi) + d0 (1 - xi)^2) / (s + (d0 + d1 - 2 s) xi (1 - xi))^2

Source: C. Durkan, A. Bekasov, I. Murray, G. Papamakarios, arXiv:1906.04032; on the circle
D. J. Rezende et al., arXiv:2002.02428.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from helmflow.bijectors.elementwise import Elementwise
from helmflow.errors import InputError

NARROWEST_BIN = 1e-3
"""Narrowest bin, as a fraction of the interval."""

SMALLEST_SLOPE = 1e-3
_SLOPE_ONE = math.log(math.expm1(1.0 - SMALLEST_SLOPE))  # where the slope below is 1


@dataclass(frozen=True)
class _Bins:
    """The bin of every number: corners, slopes at both ends, and which bin it is."""

    index: Tensor
    x0: Tensor
    y0: Tensor
    width: Tensor
    height: Tensor
    d0: Tensor
    d1: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y and log dy/dx."""
        s = self.height / self.width
        xi = (x - self.x0) / self.width
        product = xi * (1.0 - xi)
        denominator = s + (self.d0 + self.d1 - 2.0 * s) * product
        y = self.y0 + self.height * (s * xi.square() + self.d0 * product) / denominator
        return y, self._log_slope(s, xi, product, denominator)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """x and log dx/dy: the root of a quadratic, in the form without cancellation."""
        s = self.height / self.width
        u = y - self.y0
        curvature = self.d0 + self.d1 - 2.0 * s
        a = self.height * (s - self.d0) + u * curvature
        b = self.height * self.d0 - u * curvature
        c = -s * u
        root = (b.square() - 4.0 * a * c).clamp_min(torch.finfo(y.dtype).tiny).sqrt()
        xi = 2.0 * c / (-b - root)
        product = xi * (1.0 - xi)
        denominator = s + curvature * product
        return self.x0 + self.width * xi, -self._log_slope(s, xi, product, denominator)

    def _log_slope(self, s: Tensor, xi: Tensor, product: Tensor, denominator: Tensor) -> Tensor:
        numerator = (
            self.d1 * xi.square() + 2.0 * s * product + self.d0 * (1.0 - xi).square()
        ) * s.square()
        return (numerator / denominator.square()).log()


def _find_bin(z: Tensor, along: Tensor, knots: tuple[Tensor, Tensor, Tensor]) -> _Bins:
    """The bin that holds z among the inner knots ``along`` (..., K-1).

    ``knots``: x and y (..., K+1), and the parameters of the slopes there; only those of the two
    ends of the bin become slopes.
    """
    index = (z.unsqueeze(-1) >= along).sum(-1)
    pair = torch.stack((index, index + 1), -1)
    (x0, x1), (y0, y1), (d0, d1) = (k.gather(-1, pair).unbind(-1) for k in knots)
    return _Bins(index, x0, y0, x1 - x0, y1 - y0, _slope(d0), _slope(d1))


def _knots(logits: Tensor, lower: float, upper: float) -> Tensor:
    """Increasing knots (..., K+1) from ``lower`` to ``upper``, both exact."""
    n_bins = logits.shape[-1]
    share = NARROWEST_BIN + (1.0 - NARROWEST_BIN * n_bins) * logits.softmax(-1)
    inner = lower + (upper - lower) * share.cumsum(-1)[..., :-1]
    ends = inner.new_full((*inner.shape[:-1], 1), lower), inner.new_full((), upper)
    return torch.cat((ends[0], inner, ends[1].expand(ends[0].shape)), -1)


def _slope(parameters: Tensor) -> Tensor:
    return SMALLEST_SLOPE + functional.softplus(parameters + _SLOPE_ONE)


def _require_bins(n_bins: int) -> None:
    if not 1 <= n_bins < 1.0 / NARROWEST_BIN:
        raise InputError("n_bins", f"1 to {int(1 / NARROWEST_BIN) - 1} bins", n_bins)


class _Spline(Elementwise):
    """A spline of [lower, upper] onto itself."""

    lower: float
    upper: float
    n_bins: int

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        knots = self._all_knots(parameters)
        return _find_bin(x, knots[0][..., 1:-1], knots).forward(x)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        knots = self._all_knots(parameters)
        return _find_bin(y, knots[1][..., 1:-1], knots).inverse(y)

    def _all_knots(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x and y of all knots, and the parameters of the slopes there."""
        n = self.n_bins
        widths, heights, slopes = parameters.split((n, n, self.n_parameters - 2 * n), -1)
        x, y = (_knots(logits, self.lower, self.upper) for logits in (widths, heights))
        return x, y, self._all_slopes(slopes)

    @abstractmethod
    def _all_slopes(self, slopes: Tensor) -> Tensor:
        """Parameters (..., n_bins + 1) from those that are free."""


@final
class CircularSpline(_Spline):
    """A spline of the circle [0, period) that fixes 0, with one free slope across the seam.

    Parameters: n_bins logarithms of widths, of heights, and n_bins slopes. Angles outside
    [0, period) are taken as they stand to the nearest bin: wrap them first.
    """

    def __init__(self, n_bins: int, period: float = 2.0 * math.pi) -> None:
        _require_bins(n_bins)
        self.n_bins, self.n_parameters = n_bins, 3 * n_bins
        self.lower, self.upper = 0.0, period

    def parameters_of(self, heights: Tensor, slopes: Tensor) -> Tensor:
        """Parameters (..., 3 n_bins) of equal widths with these heights and knot slopes.

        Both are (..., n_bins) and positive; heights sum to the period.
        """
        share = (heights / self.upper - NARROWEST_BIN) / (1.0 - NARROWEST_BIN * self.n_bins)
        excess = (slopes - SMALLEST_SLOPE).clamp_min(SMALLEST_SLOPE)
        logits = share.clamp_min(NARROWEST_BIN).log()
        inverse_softplus = excess + (-(-excess).expm1()).log()
        return torch.cat([torch.zeros_like(logits), logits, inverse_softplus - _SLOPE_ONE], -1)

    def _all_slopes(self, slopes: Tensor) -> Tensor:
        return torch.cat((slopes, slopes[..., :1]), -1)


@final
class RationalQuadraticSpline(_Spline):
    """A spline of [lower, upper] onto itself.

    With ``linear_tails`` the end slopes are 1 and the map is the identity outside (parameters:
    n_bins widths, n_bins heights, n_bins - 1 slopes); without, the end slopes are free (n_bins
    + 1 slopes) and the domain is the interval.
    """

    def __init__(
        self, n_bins: int, lower: float = -1.0, upper: float = 1.0, *, linear_tails: bool = True
    ) -> None:
        _require_bins(n_bins)
        if not lower < upper:
            raise InputError("lower", f"less than upper = {upper}", lower)
        self.n_bins, self.lower, self.upper = n_bins, lower, upper
        self.linear_tails = linear_tails
        self.n_parameters = 3 * n_bins - 1 if linear_tails else 3 * n_bins + 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self._with_tails(x, *super().forward(self._inside(x), parameters))

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self._with_tails(y, *super().inverse(self._inside(y), parameters))

    def log_end_ratio(self, x: Tensor, parameters: Tensor) -> Tensor:
        """``log[(upper - y)(y - lower) / ((upper - x)(x - lower))]``, finite at both ends.

        In the outer bins the common factor is divided out by hand: with w = (upper - x)/width
        ``(upper - y)/(upper - x) = s (s w + d1 (1 - w)) / (s + (d0 + d1 - 2s) w (1 - w))``,
        and its mirror image; elsewhere nothing cancels.
        """
        knots = self._all_knots(parameters)
        bins = _find_bin(x, knots[0][..., 1:-1], knots)
        y, _ = bins.forward(x)
        s = bins.height / bins.width
        xi = (x - bins.x0) / bins.width
        w = (self.upper - x) / bins.width
        last, first = bins.index == self.n_bins - 1, bins.index == 0
        curvature = bins.d0 + bins.d1 - 2.0 * s
        near_upper = s * (s * w + bins.d1 * (1.0 - w)) / (s + curvature * w * (1.0 - w))
        near_lower = s * (s * xi + bins.d0 * (1.0 - xi)) / (s + curvature * xi * (1.0 - xi))
        # the unused branch must stay finite too, or its gradient would be NaN
        away_upper = (self.upper - torch.where(last, self.lower, y)) / (
            self.upper - torch.where(last, self.lower, x)
        )
        away_lower = (torch.where(first, self.upper, y) - self.lower) / (
            torch.where(first, self.upper, x) - self.lower
        )
        upper_ratio = torch.where(last, near_upper.where(last, 1.0), away_upper)
        lower_ratio = torch.where(first, near_lower.where(first, 1.0), away_lower)
        return (upper_ratio * lower_ratio).log()

    def _inside(self, x: Tensor) -> Tensor:
        return x.clamp(self.lower, self.upper) if self.linear_tails else x

    def _with_tails(self, x: Tensor, y: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        if not self.linear_tails:
            return y, log_slope
        outside = (x < self.lower) | (x > self.upper)
        return torch.where(outside, x, y), log_slope.masked_fill(outside, 0.0)

    def _all_slopes(self, slopes: Tensor) -> Tensor:
        # parameter zero is slope one
        return functional.pad(slopes, (1, 1)) if self.linear_tails else slopes
