"""What flows, densities and recipes need to know about a Riemannian manifold."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from helmflow.shapes import Configs, Values


class Manifold(ABC):
    """A complete Riemannian manifold whose points are rows of ``n_coordinates`` numbers.

    ``dim`` is its dimension and ``log_volume`` the logarithm of its volume, infinite if it is
    not compact. Tangent vectors are given in the same coordinates as points.
    """

    dim: int
    n_coordinates: int
    log_volume: float

    @abstractmethod
    def require(self, x: Configs) -> None:
        """Raise InputError unless every row of x (batch, n_coordinates) is a point."""

    @abstractmethod
    def uniform(self, n: int, generator: torch.Generator) -> Configs:
        """n independent points of the uniform density, (n, n_coordinates)."""

    @abstractmethod
    def exp(self, x: Configs, v: Configs) -> Configs:
        """Where the geodesic that leaves x with velocity v is at time one."""

    @abstractmethod
    def log(self, x: Configs, y: Configs) -> Configs:
        """The shortest tangent vector at x whose geodesic ends at y."""

    @abstractmethod
    def quadrature(self, n: int) -> tuple[Tensor, Tensor]:
        """Nodes (N, n_coordinates) and weights (N,) that integrate over the manifold.

        About n nodes per dimension. Raises InputError where such a grid has no use.
        """

    def distance(self, x: Configs, y: Configs) -> Values:
        """Geodesic distance (batch,) of two points."""
        return self.log(x, y).norm(dim=-1)
