"""A density about one point of a manifold, and mixtures of densities."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density, require_count
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.stereographic import from_plane, to_plane
from helmflow.shapes import Configs, Values

FREEDOM = 8
"""Degrees of freedom of Student's t, even: tails that outlast those of a Gaussian."""


class LocalDensity(Density):
    """Student's t in stereographic coordinates v about a point: exact on the whole manifold.

    ``q(x) = t(v) |dv/dx|``, ``t ~ (1 + |L^-1 v|^2/nu)^(-(nu + dim)/2)`` with nu = `FREEDOM`;
    ``centre`` (n_coordinates,), ``scale`` L (dim, dim) lower triangular. Where several rows are
    one point, the sum over them.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, manifold: Manifold, centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.manifold = manifold
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)

    def require(self, x: Configs) -> None:
        """Raise InputError unless every row of x is a point of the manifold."""
        self.manifold.require(x.detach())

    def log_prob(self, x: Configs) -> Values:
        """Log density (batch,)."""
        rows = [x, *self.manifold.aliases(x)]
        return torch.logsumexp(torch.stack([self._log_prob(row) for row in rows]), 0)

    def _log_prob(self, x: Configs) -> Values:
        v, log_volume = to_plane(self.manifold, self.centre, x)
        z = torch.linalg.solve_triangular(self.scale, v.T, upper=False)
        nu, dim = FREEDOM, v.shape[1]
        log_norm = math.lgamma(0.5 * (nu + dim)) - math.lgamma(0.5 * nu)
        log_norm -= 0.5 * dim * math.log(nu * math.pi)
        log_t = log_norm - 0.5 * (nu + dim) * torch.log1p(z.square().sum(0) / nu)
        return log_t - self.scale.diagonal().log().sum() - log_volume

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Configs, Values]:
        """n independent points and their log density."""
        require_count(n)
        z = torch.randn(n, len(self.scale), generator=generator, dtype=torch.float64)
        uniform = torch.rand(n, FREEDOM // 2, generator=generator, dtype=torch.float64)
        # minus twice the logarithm of a uniform number has chi^2 of two degrees of freedom
        chi2 = -2.0 * torch.log1p(-uniform).sum(-1, keepdim=True)
        v = (z * (FREEDOM / chi2).sqrt()) @ self.scale.T
        x = from_plane(self.manifold, self.centre, v)
        return x, self.log_prob(x)


class Mixture(Density):
    """``q(x) = sum_k w_k q_k(x)``; ``log_weights`` (n_parts,) of the parts, normalised."""

    def __init__(self, parts: Sequence[Density], log_weights: Tensor) -> None:
        super().__init__()
        self.parts, self.log_weights = tuple(parts), log_weights

    def require(self, x: Configs) -> None:
        """The same as for the parts."""
        self.parts[0].require(x)

    def log_prob(self, x: Configs) -> Values:
        """Log density (batch,)."""
        rows = torch.stack([part.log_prob(x) for part in self.parts])
        return torch.logsumexp(rows + self.log_weights[:, None], 0)

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Configs, Values]:
        """n independent points, in no order, and their log density."""
        require_count(n)
        weights = self.log_weights.exp()
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        counts = chosen.bincount(minlength=len(weights)).tolist()
        drawn = [
            part.sample_and_log_prob(count, generator)[0]
            for part, count in zip(self.parts, counts, strict=True)
            if count
        ]
        # drawn part after part, given back in the order in which the parts were chosen
        x = torch.cat(drawn)[chosen.argsort(stable=True).argsort()]
        return x, self.log_prob(x)
