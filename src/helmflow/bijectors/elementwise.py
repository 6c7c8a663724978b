"""Monotone maps of single numbers, with parameters from a conditioner, and their inverses."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.errors import ConvergenceError, InputError


class Elementwise(ABC):
    """A monotone map of a number, with ``n_parameters`` parameters per number.

    To add one: `forward` and `inverse` take numbers (...) and parameters (..., n_parameters)
    and return the mapped numbers with the logarithm of the derivative of the map just applied,
    both (...). Parameters zero must be the identity, so that a network whose last layer starts
    at zero starts a flow as the identity. There are no weights and no state.
    """

    n_parameters: int

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``y = f(x)`` and ``log dy/dx``."""

    @abstractmethod
    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``x = f^-1(y)`` and ``log dx/dy``."""


@final
class ShiftScale(Elementwise):
    """``y = x exp(s) + t`` with parameters (s, t): the affine coupling of real variables."""

    n_parameters = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = parameters.unbind(-1)
        return x * log_scale.exp() + shift, log_scale

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = parameters.unbind(-1)
        return (y - shift) * (-log_scale).exp(), -log_scale


@final
class Composed(Elementwise):
    """Several elementwise maps one after the other, their parameters side by side."""

    def __init__(self, maps: Sequence[Elementwise]) -> None:
        if not maps:
            raise InputError("maps", "at least one elementwise map", "none")
        self.maps = tuple(maps)
        self._sizes = [f.n_parameters for f in self.maps]
        self.n_parameters = sum(self._sizes)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(x)
        for f, part in zip(self.maps, parameters.split(self._sizes, -1), strict=True):
            x, log_derivative = f.forward(x, part)
            total = total + log_derivative
        return x, total

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(y)
        parts = parameters.split(self._sizes, -1)
        for f, part in zip(reversed(self.maps), reversed(parts), strict=True):
            y, log_derivative = f.inverse(y, part)
            total = total + log_derivative
        return y, total


STEEPEST = 0.9
"""Largest |alpha|: the slopes of one bend lie between 1 - STEEPEST and 1 + STEEPEST."""


@final
class Bends(Elementwise):
    """A line that is bent at several places, one after the other.

        x <- x + alpha_k (h(x - c_k) - h(c_k)),   h(x) = sqrt(1 + x^2),   alpha_k = 0.9 tanh a_k

    with one parameter a_k for each of the fixed ``centres`` c_k. A bend at 0 gives the quadratic
    term of an anharmonic displacement, opposite bends at -1 and 1 the cubic one. Infinitely
    smooth, with a closed inverse; it grows no faster than linearly, so that compositions of many
    stay tame. It maps 0 to 0.
    """

    def __init__(self, centres: Sequence[float] = (-1.0, 0.0, 1.0)) -> None:
        self.centres = tuple(centres)
        self.n_parameters = len(self.centres)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = torch.zeros_like(x)
        for c, a in zip(self.centres, parameters.unbind(-1), strict=True):
            alpha = STEEPEST * a.tanh()
            root = (1.0 + (x - c).square()).sqrt()
            log_slope = log_slope + torch.log1p(alpha * (x - c) / root)
            x = x + alpha * (root - (1.0 + c * c) ** 0.5)
        return x, log_slope

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = torch.zeros_like(y)
        for c, a in zip(reversed(self.centres), reversed(parameters.unbind(-1)), strict=True):
            alpha = STEEPEST * a.tanh()
            s = y - c + alpha * (1.0 + c * c) ** 0.5
            # z + alpha sqrt(1 + z^2) = s for z = x - c
            rest = 1.0 - alpha.square()
            z = (s - alpha * (s.square() + rest).sqrt()) / rest
            log_slope = log_slope - torch.log1p(alpha * z / (1.0 + z.square()).sqrt())
            y = z + c
        return y, log_slope


MOST_STEPS = 100

_TOO_FAR = 1e-9
"""Distance from the root, in x, that is not rounding any more."""


def monotone_inverse(
    f: Callable[[Tensor], tuple[Tensor, Tensor]], y: Tensor, lower: float, upper: float
) -> Tensor:
    """x (...) with f(x) = y for an increasing f of [lower, upper] that returns (f, log f').

    Newton's method from the middle, replaced by bisection whenever it would leave the bracket
    or does not halve it. First derivatives in y and in whatever f depends on follow the
    implicit-function theorem, ``dx = (dy - df)/f'``; the search itself is not differentiated.
    Raises ConvergenceError if rounding is not reached, as happens for y outside the range of f.
    """
    with torch.no_grad():
        x = _search(f, y.detach(), lower, upper)
    value, log_slope = f(x)
    return x - (value - y) * (-log_slope.detach()).exp()


def _search(
    f: Callable[[Tensor], tuple[Tensor, Tensor]], y: Tensor, lower: float, upper: float
) -> Tensor:
    low, high = torch.full_like(y, lower), torch.full_like(y, upper)
    tolerance = 4.0 * torch.finfo(y.dtype).eps * max(abs(lower), abs(upper))
    x = y.clamp(lower, upper)
    previous = step = high - low
    for _ in range(MOST_STEPS):
        value, log_slope = f(x)
        excess = value - y
        low, high = torch.where(excess <= 0, x, low), torch.where(excess >= 0, x, high)
        step = -excess * (-log_slope).exp()
        newton = x + step
        accepted = (newton >= low) & (newton <= high) & (2.0 * step.abs() < previous)
        following = torch.where(accepted, newton, 0.5 * (low + high))
        previous = (following - x).abs()
        x = following
        if bool((previous <= tolerance).all()):
            break
    missed = step.abs()
    if not bool((missed <= _TOO_FAR).all()):
        worst = float(missed.max())
        raise ConvergenceError(f"inverse of a monotone map: off by {worst:.3g}", worst)
    return x
