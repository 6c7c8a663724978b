"""U(1) gauge theory on a periodic square lattice."""

import math
from abc import ABC, abstractmethod

import torch

from helmflow.energies.base import Energy
from helmflow.errors import InputError
from helmflow.manifolds.links import curl, plaquette_angles, require_lattice, require_links
from helmflow.shapes import Configs, Values


class GaugeEnergy(Energy, ABC):
    """An action of link variables on a lattice with extents ``shape``, () for a single link."""

    shape: tuple[int, ...]

    @abstractmethod
    def cold_start(self, n: int) -> Configs:
        """n configurations with all links one."""


class U1Wilson(GaugeEnergy):
    """``S = -beta sum_n cos P(n)`` of U(1) links (batch, 2, L0, L1), angles in radians.

    ``beta`` >= 0. Raises InputError for other values and for extents below 3.
    Source: K. G. Wilson, doi:10.1103/PhysRevD.10.2445.
    """

    shape: tuple[int, int]

    def __init__(self, shape: tuple[int, int], *, beta: float) -> None:
        super().__init__()
        self.shape = require_lattice(shape)
        self.beta = require_coupling("beta", beta)

    def cold_start(self, n: int) -> Configs:
        """All angles zero."""
        return torch.zeros(n, 2, *self.shape, dtype=torch.float64)

    def forward(self, x: Configs) -> Values:
        """The action of each configuration, differentiable to any order."""
        require_links(x, self.shape)
        return -self.beta * torch.cos(plaquette_angles(x)).sum((1, 2))

    def energy_and_gradient(self, x: Configs) -> tuple[Values, Configs]:
        """The action and ``dS/dtheta``, the curl of ``beta sin P``, without a graph."""
        require_links(x, self.shape)
        angles = plaquette_angles(x.detach())
        action = -self.beta * torch.cos(angles).sum((1, 2))
        return action, curl(self.beta * torch.sin(angles))


def require_coupling(name: str, value: float, upper: float = math.inf) -> float:
    """The coupling; InputError unless it is finite, not negative and below ``upper``."""
    if not (math.isfinite(value) and 0.0 <= value < upper):
        limit = "" if math.isinf(upper) else f" and below {upper:g}"
        raise InputError(f"potential.{name}", f"a number >= 0{limit}", value)
    return float(value)
