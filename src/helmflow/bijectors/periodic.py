"""Maps of fractional coordinates, applied to positions or to displacements of a crystal."""

from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, require_event
from helmflow.bijectors.conjugated import Conjugated, View
from helmflow.shapes import Configs, Particles


@final
class InCell(Conjugated):
    """A map of [0, 1)^3, applied to positions x (batch, n, 3) in a periodic cell.

    ``cell`` (3, 3), rows are vectors. The Jacobians of going to fractional coordinates and back
    cancel. Positions come back wrapped into the cell.
    """

    cell: Tensor
    to_fractions: Tensor

    def __init__(self, bijector: Bijector, cell: Tensor) -> None:
        super().__init__(bijector)
        self.register_buffer("cell", cell)
        self.register_buffer("to_fractions", torch.linalg.inv(cell))

    def view(self, x: Particles) -> View:
        return wrap(x @ self.to_fractions), lambda z: z @ self.cell


@final
class Pinned(Conjugated):
    """A map of [0, 1)^3 for n - 1 particles, applied to displacements of a crystal of n.

    Displacements u (batch, 3n) of zero mean are seen from the last particle, which takes the
    place of the origin:

        v_i = u_i - u_n,   x_i = (s_i - s_n + v_i) in fractional coordinates mod 1,   i < n

    The inner map moves the x_i, and the nearest images of the results give v and u back. u -> v
    is linear with a constant Jacobian, so the log-determinant on the space of zero mean is that
    of the inner map. Displacements must be shorter than half the cell: the inner map acts on a
    torus, and this one on the part of u that the torus can tell apart.
    """

    cell: Tensor
    to_fractions: Tensor
    sites: Tensor

    def __init__(self, bijector: Bijector, sites: Tensor, cell: Tensor) -> None:
        super().__init__(bijector)
        self.register_buffer("cell", cell)
        self.register_buffer("to_fractions", torch.linalg.inv(cell))
        self.register_buffer("sites", (sites[:-1] - sites[-1]) @ self.to_fractions)

    def view(self, x: Configs) -> View:
        require_event(x, torch.Size([3 * len(self.sites) + 3]))
        u = x.view(len(x), len(self.sites) + 1, 3)
        return wrap(self.sites + (u[:, :-1] - u[:, -1:]) @ self.to_fractions), self._displacements

    def _displacements(self, z: Particles) -> Configs:
        v = z - self.sites
        v = (v - v.detach().round()) @ self.cell
        u = torch.cat([v, v.new_zeros(len(v), 1, 3)], 1)
        return (u - u.mean(1, keepdim=True)).flatten(1)


def wrap(x: Tensor) -> Tensor:
    """Fractional coordinates moved by whole numbers into [0, 1)."""
    wrapped = x - x.detach().floor()
    # A tiny negative number wraps to 1 - eps/4, which rounds to 1.
    return torch.where(wrapped < 1.0, wrapped, wrapped - 1.0)
