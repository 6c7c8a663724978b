"""Maps seen through other coordinates, fractional ones say, or through some of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, Chain, Inverse, TwoWay, require_event
from helmflow.errors import InputError
from helmflow.manifolds.torus import wrap
from helmflow.shapes import Configs, Particles, Values

View = tuple[Tensor, Callable[[Tensor], Configs]]
"""The coordinates z of a configuration, and the configuration as a function of new ones."""


class Conjugated(TwoWay, ABC):
    """A bijector f of coordinates z(x): ``z(y) = f(z(x))``, log|det| that of f.

    To add one: `view`, whose change of coordinates has a constant volume, or leaves alone what z
    does not see. `conjugated` is for coordinates whose volume changes.
    """

    def __init__(self, bijector: Bijector) -> None:
        super().__init__()
        self.bijector = bijector

    @abstractmethod
    def view(self, x: Configs) -> View:
        """z and the way back."""

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        z, back = self.view(x)
        moved, log_det = self.bijector.directed(z, sign)
        return back(moved), log_det


@final
class Part(Conjugated):
    """``y[index] = f(x[index])``, all other coordinates unchanged; configurations (batch, n).

    ``index`` (k,) are distinct places, f is a bijector of (batch, k).
    """

    index: Tensor

    def __init__(self, bijector: Bijector, index: Tensor) -> None:
        super().__init__(bijector)
        if index.ndim != 1 or len(index.unique()) != len(index):
            raise InputError("index", "distinct places (k,)", index.tolist())
        self.register_buffer("index", index)

    def view(self, x: Configs) -> View:
        return x[:, self.index], lambda z: x.index_copy(1, self.index, z)


def conjugated(coordinates: Bijector, *maps: Bijector) -> Chain:
    """``c^-1 f c``: maps f, one after the other, of the coordinates c(x)."""
    return Chain([coordinates, *maps, Inverse(coordinates)])


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
        return wrap(x @ self.to_fractions, 1.0), lambda z: z @ self.cell


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
        x = self.sites + (u[:, :-1] - u[:, -1:]) @ self.to_fractions
        return wrap(x, 1.0), self._displacements

    def _displacements(self, z: Particles) -> Configs:
        v = z - self.sites
        v = (v - v.detach().round()) @ self.cell
        u = torch.cat([v, v.new_zeros(len(v), 1, 3)], 1)
        return (u - u.mean(1, keepdim=True)).flatten(1)
