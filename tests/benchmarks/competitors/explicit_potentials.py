"""Potentials on spheres whose exponential map cannot fold, whatever their parameters.

Used forwards, base to target, by `SpherePotentialMap`.
"""

from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.potentials import Potential, unit_rows
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

LARGEST_SUM = 0.99
"""Of the bounds below: at 1 the density may be infinite somewhere."""


@final
class PolynomialPotential(Potential):
    """``psi = mu . x + x'Ax/2`` with ``|mu|_1 + |A|_1 <= 1``, A symmetric.

    With the Hessian A of ``x'Ax/2`` the bound is sufficient; the bound ``|mu|_1 + |A|_1 <= 1`` for
    ``mu . x + x'Ax``, found in print, is not: A = e_1 e_1' then folds the sphere.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(dim + 1, dtype=torch.float64))
        self.square = nn.Parameter(torch.zeros(dim + 1, dim + 1, dtype=torch.float64))

    def bounded(self) -> tuple[Tensor, Tensor]:
        """mu (n,) and A (n, n), scaled into the bound."""
        A = 0.5 * (self.square + self.square.T)
        total = self.vector.abs().sum() + A.abs().sum()
        scale = LARGEST_SUM / total.clamp_min(LARGEST_SUM)
        return scale * self.vector, scale * A

    def forward(self, x: Configs) -> Values:
        """psi (batch,)."""
        mu, A = self.bounded()
        return x @ mu + 0.5 * ((x @ A) * x).sum(-1)

    def jet(self, x: Configs) -> tuple[Tensor, Tensor]:
        """``mu + A x`` and A."""
        mu, A = self.bounded()
        return mu + x @ A, A.expand(len(x), *A.shape)


@final
class RadialSumPotential(Potential):
    """``psi = sum_i alpha_i/beta_i exp(beta_i (x . mu_i - 1))``, alpha_i > 0, sum alpha_i < 1.

    Centres mu_i, sharpnesses beta_i > 0 and weights are learned. A sum of exactly one puts an
    infinite density on the centre of a single term, and is never reached here.
    """

    def __init__(self, centres: Tensor, sharpness: float = 1.0) -> None:
        super().__init__()
        if not sharpness > 0:
            raise InputError("sharpness", "a positive number", sharpness)
        n = len(centres)
        self.centres = nn.Parameter(unit_rows("centres", centres).clone())
        self.log_sharpness = nn.Parameter(torch.full((n,), sharpness, dtype=torch.float64).log())
        self.logits = nn.Parameter(torch.zeros(n + 1, dtype=torch.float64))

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """alpha (K,), beta (K,), mu (K, n)."""
        alpha = LARGEST_SUM * self.logits.softmax(0)[:-1]
        mu = self.centres / self.centres.norm(dim=-1, keepdim=True)
        return alpha, self.log_sharpness.exp(), mu

    def forward(self, x: Configs) -> Values:
        """psi (batch,)."""
        alpha, beta, mu = self.parts()
        return (alpha / beta * (beta * (x @ mu.T - 1.0)).exp()).sum(-1)

    def jet(self, x: Configs) -> tuple[Tensor, Tensor]:
        """Sums over the centres."""
        alpha, beta, mu = self.parts()
        weight = alpha * (beta * (x @ mu.T - 1.0)).exp()
        outer = (mu.unsqueeze(-1) * mu.unsqueeze(-2)).flatten(1)
        return weight @ mu, ((weight * beta) @ outer).unflatten(-1, mu.shape[-1:] * 2)


@final
class SoftMinPotential(Potential):
    """``psi = g log sum_i exp(-(c(x, y_i) + alpha_i)/g)``, c half the squared distance.

    Minus a soft minimum, so c-concave: the map goes to a soft barycentre of the y_i. Points,
    heights and the width g are learned. Source: S. Cohen, B. Amos, Y. Lipman, arXiv:2106.10272.
    """

    def __init__(self, points: Tensor, heights: Tensor, width: float = 0.1) -> None:
        super().__init__()
        if not width > 0:
            raise InputError("width", "a positive number", width)
        self.points = nn.Parameter(unit_rows("points", points).clone())
        if heights.shape != points.shape[:1] or not bool(torch.isfinite(heights).all()):
            raise InputError("heights", f"{len(points)} finite numbers", tuple(heights.shape))
        self.heights = nn.Parameter(heights.clone())
        self.log_width = nn.Parameter(torch.tensor(width, dtype=torch.float64).log())

    def forward(self, x: Configs) -> Values:
        """psi (batch,)."""
        cost, _, _ = half_square_angle(x @ self._unit().T)
        width = self.log_width.exp()
        return width * torch.logsumexp(-(cost + self.heights) / width, -1)

    def jet(self, x: Configs) -> tuple[Tensor, Tensor]:
        """``-sum w c' y`` and ``-sum w c'' y y' + covariance of (c' y)/g``, c' = dc/d(x . y)."""
        y = self._unit()
        cost, first, second = half_square_angle(x @ y.T)
        width = self.log_width.exp()
        w = (-(cost + self.heights) / width).softmax(-1)
        outer = (y.unsqueeze(-1) * y.unsqueeze(-2)).flatten(1)
        mean = (w * first) @ y
        square = (w * (first.square() / width - second)) @ outer
        n = y.shape[-1]
        hessian = square.unflatten(-1, (n, n)) - mean.unsqueeze(-1) * mean.unsqueeze(-2) / width
        return -mean, hessian

    def _unit(self) -> Tensor:
        return self.points / self.points.norm(dim=-1, keepdim=True)


def half_square_angle(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``c = arccos(t)^2/2`` with its first two derivatives by t; series near t = 1.

    At t = -1, the cut locus, the derivative is infinite: t stops short of it.
    """
    t = t.clamp(-0.99999, 1.0)
    e = 1.0 - t
    near = e < 1e-3
    safe = torch.where(near, 0.0, t)
    angle = safe.acos()
    sine2 = 1.0 - safe.square()
    ratio = angle / sine2.sqrt()
    cost = torch.where(near, e * (1 + e * (1 / 6 + e * (2 / 45 + e / 70))), 0.5 * angle.square())
    first = torch.where(near, -(1 + e * (1 / 3 + e * (2 / 15 + 2 * e / 35))), -ratio)
    series = 1 / 3 + e * (4 / 15 + e * (6 / 35 + e * (32 / 315)))
    second = torch.where(near, series, (1.0 - safe * ratio) / sine2)
    return cost, first, second
