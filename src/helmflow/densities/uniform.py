"""The uniform density of a compact manifold."""

import math
from typing import final

import torch

from helmflow.densities.base import Density, require_count
from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.shapes import Configs, Values


@final
class Uniform(Density):
    """``log p = -log volume``: Haar measure of tori, surface measure of spheres.

    Raises InputError for a manifold of infinite volume, and for points that are not on it.
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        if not math.isfinite(manifold.log_volume):
            raise InputError("manifold", "a compact one", repr(manifold))
        self.manifold = manifold

    def require(self, x: Configs) -> None:
        """Raise InputError unless every row of x is a point of the manifold."""
        self.manifold.require(x.detach())

    def log_prob(self, x: Configs) -> Values:
        """Minus the log volume, for every point."""
        self.require(x)
        return x.new_full((len(x),), -self.manifold.log_volume)

    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        """n independent points and their log density."""
        require_count(n)
        x = self.manifold.uniform(n, generator)
        return x, x.new_full((n,), -self.manifold.log_volume)
