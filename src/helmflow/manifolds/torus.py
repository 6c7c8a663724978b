"""The flat torus: angles in [0, 2 pi)."""

import math
from typing import final

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold, Picture
from helmflow.shapes import Configs

TWO_PI = 2.0 * math.pi
LARGEST_GRID = 20_000_000


@final
class Torus(Manifold):
    """T^dim with the flat metric: ``dim`` angles in [0, 2 pi), volume (2 pi)^dim.

    Its features are the cosines of all angles, then their sines.
    """

    letter = "T"
    grid_span = TWO_PI

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise InputError("manifold", "at least one angle", dim)
        self.dim = self.n_coordinates = self.n_angles = dim
        self.n_features = 2 * dim
        self.log_volume = dim * math.log(TWO_PI)
        self.grid_sizes = {1: (521, 768), 2: (193, 256)}.get(dim)

    def features(self, x: Configs) -> Tensor:
        return torch.cat((x.cos(), x.sin()), -1)

    def require(self, x: Configs) -> None:
        require_rows(x, self.dim)
        inside = (x >= 0.0) & (x < TWO_PI)
        if not bool(inside.all()):
            raise InputError("x", "angles in [0, 2 pi)", x[~inside][0].item())

    def uniform(self, n: int, generator: torch.Generator) -> Configs:
        return TWO_PI * torch.rand(n, self.dim, generator=generator, dtype=torch.float64)

    def exp(self, x: Configs, v: Configs) -> Configs:
        """``x + v`` in [0, 2 pi)."""
        return wrap(x + v)

    def log(self, x: Configs, y: Configs) -> Configs:
        """``y - x`` moved by whole turns into [-pi, pi]."""
        d = y - x
        return d - TWO_PI * (d / TWO_PI).round()

    def quadrature(self, n: int) -> tuple[Tensor, Tensor]:
        """n equal steps along every angle: spectrally accurate for smooth integrands."""
        require_grid(n**self.dim, self)
        steps = TWO_PI * torch.arange(n, dtype=torch.float64) / n
        nodes = torch.cartesian_prod(*[steps] * self.dim).reshape(-1, self.dim)
        return nodes, nodes.new_full((len(nodes),), (TWO_PI / n) ** self.dim)

    def picture(self, n_steps: int) -> Picture | None:
        """The two angles of T^2 from 0 to 2 pi."""
        if self.dim != 2:
            return None
        steps = torch.linspace(0.0, 1.0, n_steps + 1, dtype=torch.float64)
        angles = TWO_PI * steps
        return angles, angles, torch.cartesian_prod(angles, angles).remainder(TWO_PI)


def wrap(x: Tensor, period: float = TWO_PI) -> Tensor:
    """Angles moved by whole periods to [0, period)."""
    wrapped = x - period * (x / period).floor()
    # a tiny negative angle would round to the period itself
    return torch.where(wrapped < period, wrapped, wrapped - period)


def require_rows(x: Configs, n: int) -> None:
    """Raise InputError unless x is (batch, n) of finite numbers."""
    if x.ndim != 2 or x.shape[1] != n:
        raise InputError("x", f"shape (batch, {n})", tuple(x.shape))
    if not bool(torch.isfinite(x).all()):
        raise InputError("x", "finite coordinates", "NaN or infinity")


def require_grid(n_nodes: int, manifold: Manifold) -> None:
    """Raise InputError if a grid of that many nodes would not fit."""
    if n_nodes > LARGEST_GRID:
        raise InputError("manifold", "few enough dimensions for a grid", repr(manifold))
