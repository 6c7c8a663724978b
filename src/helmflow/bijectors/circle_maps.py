"""Smooth monotone maps of the circle [0, 2 pi): rotations and mixtures of projective maps.

A mixture averages the *lifted* angle, so that no branch is ever chosen; both kinds fix 0 and are
continuous across the seam with all derivatives. Their inverses are roots found to rounding, and
differentiated through the implicit-function theorem.
Source: D. J. Rezende et al., arXiv:2002.02428.
"""

import math
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.elementwise import Elementwise, monotone_inverse
from helmflow.errors import InputError
from helmflow.manifolds.torus import wrap

LARGEST_RADIUS = 0.99
"""Of a Moebius centre: the largest slope is (1 + r)/(1 - r)."""

LARGEST_LOG_SLOPE = 4.0
"""Of a projective map at the seam."""

_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))


@final
class Rotation(Elementwise):
    """``y = x + t`` modulo the period, with the one parameter t."""

    n_parameters = 1

    def __init__(self, period: float = 2.0 * math.pi) -> None:
        self.period = period

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return wrap(x + parameters[..., 0], self.period), torch.zeros_like(x)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return wrap(y - parameters[..., 0], self.period), torch.zeros_like(y)


class _Mixture(Elementwise):
    """Convex combination of maps of the circle, inverted numerically."""

    def __init__(self, n_components: int) -> None:
        if n_components < 1:
            raise InputError("n_components", "at least one", n_components)
        self.n_components = n_components
        self.n_parameters = 3 * n_components

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        x = monotone_inverse(lambda t: self.forward(t, parameters), y, 0.0, 2.0 * math.pi)
        return x, -self.forward(x, parameters)[1]

    def _parts(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (sum one) and the two parameters of every component."""
        logits, a, b = parameters.split(self.n_components, -1)
        cos, sin = _axes(self.n_components)
        cos, sin = cos.to(parameters), sin.to(parameters)
        return logits.softmax(-1), cos * a - sin * b, sin * a + cos * b


def _axes(n: int) -> tuple[Tensor, Tensor]:
    """Own axes and scales for every component.

    At parameters zero all components are equal and would receive equal gradients for ever; seen
    through axes turned by the golden angle, equal updates move them apart.
    """
    k = torch.arange(n, dtype=torch.float64)
    scale = 0.5 + (k + 0.5) / n
    return scale * torch.cos(_GOLDEN_ANGLE * k), scale * torch.sin(_GOLDEN_ANGLE * k)


@final
class MoebiusMixture(_Mixture):
    """Weighted mean of Moebius maps with centres w_k inside the unit disc.

    ``y = x + 2 sum_k rho_k [arg(1 - w_k e^-ix) - arg(1 - w_k)]``,
    ``dy/dx = sum_k rho_k (1 - |w_k|^2)/|1 - w_k e^-ix|^2``. Parameters: n_centres logarithms of
    weights and two coordinates of every centre before it is drawn into the disc of radius
    `LARGEST_RADIUS`.
    """

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        rho, a, b = self._parts(parameters)
        shrink = LARGEST_RADIUS * (1.0 + a.square() + b.square()).rsqrt()
        angle, slope = moebius(x.unsqueeze(-1), a * shrink, b * shrink)
        return (rho * angle).sum(-1), (rho * slope).sum(-1).log()


@final
class ProjectionMixture(_Mixture):
    """Weighted mean of non-compact projections, affine maps of ``tan(x/2 - pi/2)``.

    With c = cos(x/2), s = sin(x/2): ``y = pi + 2 sum_k rho_k atan2(beta_k s - alpha_k c, s)``,
    ``dy/dx = sum_k rho_k alpha_k / [s^2 + (alpha_k c - beta_k s)^2]``. Parameters: logarithms of
    weights, then two numbers per component that become log alpha (bounded by
    `LARGEST_LOG_SLOPE`) and beta.
    """

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        rho, a, beta = self._parts(parameters)
        alpha = (LARGEST_LOG_SLOPE * torch.tanh(a / LARGEST_LOG_SLOPE)).exp()
        angle, slope = projection(x.unsqueeze(-1), alpha, beta)
        return (rho * angle).sum(-1), (rho * slope).sum(-1).log()


def moebius(x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Lifted angle and slope of the Moebius map with centre a + ib, turned so that 0 is fixed."""
    cos, sin = x.cos(), x.sin()
    real = 1.0 - (a * cos + b * sin)
    imaginary = a * sin - b * cos
    # both real parts are positive: no branch cut is ever crossed
    turn = torch.atan2(imaginary, real) + torch.atan2(b, 1.0 - a)
    slope = (1.0 - a.square() - b.square()) / (real.square() + imaginary.square())
    return x + 2.0 * turn, slope


def projection(x: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Angle and slope of ``2 arctan(alpha tan(x/2 - pi/2) + beta) + pi``, without the tangent."""
    cos, sin = (0.5 * x).cos(), (0.5 * x).sin()
    sin = torch.where(sin < 0.0, -sin, sin)  # an angle that rounds past an end stays there
    shifted = alpha * cos - beta * sin
    angle = 2.0 * torch.atan2(-shifted, sin) + math.pi
    return angle, alpha / (sin.square() + shifted.square())
