"""The simplest density of a manifold that need not be compact."""

import math
from typing import final

import torch
from torch import Tensor

from helmflow.densities.base import Density, require_count
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.product import Euclidean, Product
from helmflow.shapes import Configs, Values


@final
class UniformAndNormal(Density):
    """Uniform on the tori and spheres of a product, standard normal on its real lines.

    ``log p = -sum log volume - sum_lines (|x|^2 + dim log 2 pi)/2``.
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        self.manifold = manifold
        factors = manifold.factors if isinstance(manifold, Product) else (manifold,)
        self.factors = factors
        self.sizes = [factor.n_coordinates for factor in factors]

    def require(self, x: Configs) -> None:
        """Raise InputError unless every row of x is a point of the manifold."""
        self.manifold.require(x.detach())

    def log_prob(self, x: Configs) -> Values:
        """Log density (batch,); raises InputError for points that are not on the manifold."""
        self.require(x)
        return self._log_prob(x)

    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        """n independent points and their log density."""
        require_count(n)
        parts = [
            torch.randn(n, factor.dim, generator=generator, dtype=torch.float64)
            if isinstance(factor, Euclidean)
            else factor.uniform(n, generator)
            for factor in self.factors
        ]
        x = torch.cat(parts, -1)
        return x, self._log_prob(x)

    def _log_prob(self, x: Tensor) -> Values:
        total = torch.zeros_like(x[:, 0])
        for factor, part in zip(self.factors, x.split(self.sizes, -1), strict=True):
            if isinstance(factor, Euclidean):
                constant = factor.dim * math.log(2.0 * math.pi)
                total = total - 0.5 * (part.square().sum(-1) + constant)
            else:
                total = total - factor.log_volume
        return total
