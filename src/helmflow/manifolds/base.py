"""What flows, densities and families need to know about a Riemannian manifold."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from helmflow.shapes import Configs, Values

Picture = tuple[Tensor, Tensor, Configs]
"""Two axes (n,) and (m,) to draw a surface on, and its points (n m, n_coordinates) there."""


class Manifold(ABC):
    """A complete Riemannian manifold whose points are rows of ``n_coordinates`` numbers.

    ``letter`` and ``dim`` are its name in a system file, ``T2`` say. ``log_volume`` is the
    logarithm of its volume, infinite if it is not compact, and ``convention`` what a reader of
    ln Z must know of the measure beyond that. Tangent vectors are given in the same coordinates
    as points, of which ``n_angles`` are angles: all or none. ``grid_sizes`` are the nodes per
    dimension of two grids (None in many dimensions), which span ``grid_span`` radians; without
    common factors, or the two agree on where a density jumps and both are wrong.

    To add one: a file with a subclass, and its name in `FACTORS` of ``product.py``.
    """

    letter: str
    dim: int
    n_coordinates: int
    n_features: int
    log_volume: float
    n_angles: int = 0
    grid_sizes: tuple[int, int] | None = None
    grid_span: float = math.pi
    convention: str = ""

    def __repr__(self) -> str:
        return f"{self.letter}{self.dim}"

    @property
    def compact(self) -> bool:
        """Whether the volume is finite."""
        return math.isfinite(self.log_volume)

    @property
    def factors(self) -> tuple["Manifold", ...]:
        """The manifolds that this one is a product of: itself, if it is none."""
        return (self,)

    @property
    def sizes(self) -> list[int]:
        """Coordinates of each factor."""
        return [factor.n_coordinates for factor in self.factors]

    @property
    def cover(self) -> "Manifold":
        """The manifold of the same coordinates on which different rows are different points."""
        return self

    def aliases(self, x: Configs) -> list[Configs]:
        """Other rows for the same points: densities and energies must agree on them."""
        return []

    @abstractmethod
    def features(self, x: Configs) -> Tensor:
        """What networks see of points: smooth functions of them, (batch, n_features)."""

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

    def tangent(self, x: Configs, v: Configs) -> Configs:
        """The part of v (batch, n_coordinates) that is tangent to the manifold at x."""
        return v

    def distance(self, x: Configs, y: Configs) -> Values:
        """Geodesic distance (batch,) of two points."""
        return self.log(x, y).norm(dim=-1)

    def picture(self, n_steps: int) -> Picture | None:
        """A grid to draw the manifold on, None where it is no surface."""
        return None
