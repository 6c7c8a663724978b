"""The simplest densities of manifolds, compact or not."""

import math
from typing import final

import torch
from torch import Tensor

from helmflow.densities.base import Density, require_count
from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.shapes import Configs, Values


class UniformAndNormal(Density):
    """Uniform on the compact factors of a manifold, standard normal on its real lines.

    ``log p = -sum log volume - sum_lines (|x|^2 + dim log 2 pi)/2``.
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        self.manifold = manifold

    def require(self, x: Configs) -> None:
        self.manifold.require(x.detach())

    def log_prob(self, x: Configs) -> Values:
        self.require(x)
        return self._log_prob(x)

    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        require_count(n)
        parts = [
            factor.uniform(n, generator)
            if factor.compact
            else torch.randn(n, factor.dim, generator=generator, dtype=torch.float64)
            for factor in self.manifold.factors
        ]
        x = torch.cat(parts, -1)
        return x, self._log_prob(x)

    def _log_prob(self, x: Tensor) -> Values:
        total = torch.zeros_like(x[:, 0])
        parts = x.split(self.manifold.sizes, -1)
        for factor, part in zip(self.manifold.factors, parts, strict=True):
            if factor.compact:
                total = total - factor.log_volume
            else:
                constant = factor.dim * math.log(2.0 * math.pi)
                total = total - 0.5 * (part.square().sum(-1) + constant)
        return total


@final
class Uniform(UniformAndNormal):
    """``log p = -log volume``: Haar measure of tori and rotations, surface measure of spheres.

    Raises InputError for a manifold of infinite volume, and for points that are not on it.
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__(manifold)
        if not manifold.compact:
            raise InputError("manifold", "a compact one", repr(manifold))
