"""Inverses of increasing functions, found to rounding and differentiated implicitly."""

from collections.abc import Callable

import torch
from torch import Tensor

from helmflow.errors import ConvergenceError

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
