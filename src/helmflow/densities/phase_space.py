"""Densities of positions and momenta together."""

import math
from typing import final

import torch

from helmflow.densities.base import Density, require_count
from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.product import Euclidean, require_phase_space
from helmflow.manifolds.sphere import Sphere
from helmflow.manifolds.torus import Torus
from helmflow.shapes import Configs, Values


@final
class Cotangent(Density):
    """Positions uniform (standard normal on R^n), momenta standard normal in the tangent space.

    ``log p = -log volume - D/2 log(2 pi) - |p|^2/2`` with respect to Liouville measure; rows are
    (q, p), 2 n_coordinates numbers. R^n, T^n or S^n: InputError for others.
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        self.flat = isinstance(manifold, Euclidean)
        if not isinstance(manifold, Euclidean | Torus | Sphere):
            raise InputError("manifold", "R, T or S", repr(manifold))
        self.manifold = manifold

    def require(self, x: Configs) -> None:
        require_phase_space(self.manifold, x.detach())

    def log_prob(self, x: Configs) -> Values:
        q, p = x.chunk(2, -1)
        momenta = -0.5 * p.square().sum(-1) - 0.5 * self.manifold.dim * math.log(2.0 * math.pi)
        if self.flat:
            normaliser = 0.5 * self.manifold.dim * math.log(2.0 * math.pi)
            return momenta - 0.5 * q.square().sum(-1) - normaliser
        return momenta - self.manifold.log_volume

    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        require_count(n)
        shape = (n, self.manifold.n_coordinates)
        p = torch.randn(shape, generator=generator, dtype=torch.float64)
        if self.flat:
            q = torch.randn(shape, generator=generator, dtype=torch.float64)
        else:
            q = self.manifold.uniform(n, generator)
        if isinstance(self.manifold, Sphere):
            p = self.manifold.tangent(q, p)
        x = torch.cat((q, p), -1)
        return x, self.log_prob(x)
