"""A base density pushed through a bijector."""

from typing import final

import torch

from helmflow.bijectors.base import Bijector
from helmflow.densities.base import Density
from helmflow.shapes import Configs, Values


@final
class Flow(Density):
    """The density of ``x = f(z)`` with z from a base density.

    ``log q(x) = log p_0(z) - log|det df/dz|`` at ``z = f^-1(x)``.
    """

    def __init__(self, base: Density, bijector: Bijector) -> None:
        super().__init__()
        self.base = base
        self.bijector = bijector

    def require(self, x: Configs) -> None:
        self.base.require(x)

    def log_prob(self, x: Configs) -> Values:
        """Log density (batch,), through the inverse map; InputError for points off a manifold."""
        self.require(x)
        z, log_det = self.bijector.inverse(x)
        return self.base.log_prob(z) + log_det

    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        z, log_p = self.base.sample_and_log_prob(n, generator)
        x, log_det = self.bijector.forward(z)
        return x, log_p - log_det
