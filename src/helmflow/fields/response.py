"""The linear response of a crystal to the forces of its bonds."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from helmflow.fields.base import Point, TransportField
from helmflow.fields.pairs import PairField, Shell, joined
from helmflow.manifolds.cells import CellGrid
from helmflow.shapes import Values

Array = np.ndarray
CHUNK = 64
"""Configurations at a time: bounds the memory for the curvatures of their bonds."""

DIRECTION = 1e-3
"""Bonds of one kind have directions that agree to this; sites are only as exact as their file."""

OFFSET = 0.31415927
"""In units of DIRECTION, and no fraction of it: directions stay off the edges of their bins."""

ELEMENTS = (((0, 0),), ((0, 1), (1, 0)), ((0, 2), (2, 0)), ((1, 1),), ((1, 2), (2, 1)), ((2, 2),))
"""Which elements of a symmetric 3 x 3 matrix each of its six numbers stands for."""


class ResponseField(TransportField):
    """Half the energy that a crystal releases when it yields to the forces of bonds.

    phi = grad Phi . K^-1 grad Phi / 2,   Phi = sum_k weights_k phi_k of a `PairField`

    To first order the work w = u_1 - u_0 is undone by a velocity v = -K^-1 grad Phi. To second
    order in w the field needs, up to a factor, (v . grad) v, which is K^-1 grad phi: bonds far
    apart act on each other through the strain between them. With H the Hessian of Phi,

    grad phi = H a,   tr[K^-1 hess phi] = tr[K^-1 H K^-1 H] + a . grad tr[K^-1 H],
    a = K^-1 grad Phi,

    and the first trace is a convolution over pairs of bonds, done wave vector by wave vector.

    pairs: the bonds and their functions. weights: of Phi, one (size,) for each of ``pairs``.
    covariance: (3n, 3n) = K^-1. respond: (batch, 3n) -> (batch, 3n), the product with K^-1.
    cells: of the bonds, from `cells_of_bonds`.
    """

    size = 1

    def __init__(
        self,
        pairs: Sequence[PairField],
        weights: Sequence[Array],
        covariance: Tensor,
        cells: CellGrid,
        respond: Callable[[Tensor], Tensor],
    ) -> None:
        self.pairs = tuple(pairs)
        self.weights = tuple(np.ascontiguousarray(w, dtype=np.float64) for w in weights)
        self._respond = respond
        bonds = joined([field.shell for field in pairs])
        self._first, self._second, self._cells = bonds.first, bonds.second, cells
        self._blocks = cells.blocks_of(_first_rows(bonds, cells, covariance))

    def stein(self, point: Point) -> Tensor:
        gradient, trace = self._value(point.u)
        return (torch.linalg.vecdot(gradient, point.direction) - trace)[None]

    def contract(self, u: Tensor, weights: Tensor) -> tuple[Tensor, Values]:
        gradient, trace = self._value(u)
        return weights[0] * gradient, weights[0] * trace

    def _value(self, u: Tensor) -> tuple[Tensor, Values]:
        parts = [self._part(part) for part in u.split(CHUNK)]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _part(self, u: Tensor) -> tuple[Tensor, Values]:
        from helmflow.kernels import response

        parts = [
            field.bonds(u, weights)
            for field, weights in zip(self.pairs, self.weights, strict=True)
        ]
        yielding = self._respond(torch.from_numpy(sum(part[0] for part in parts)))
        bonds = np.concatenate([part[1] for part in parts], axis=1)
        curvature = torch.from_numpy(bonds).view(len(u), -1, response.NUMBERS)[:, :, :6]
        trace = self._cells.quadratic_form(curvature.reshape(len(u), -1), self._blocks)
        gradient = np.empty(u.shape)
        a = yielding.contiguous().numpy()
        response.apply(bonds, a, self._first, self._second, gradient, trace.numpy())
        return torch.from_numpy(gradient), trace


def cells_of_bonds(shell: Shell, sites: CellGrid) -> CellGrid:
    """The bonds sorted into the cells of the sites, six numbers per bond.

    A single cell where the same kinds of bonds do not start in every cell.
    """
    n_cells = sites.n_cells
    # The same direction for all copies of a bond: the first component that is not zero is > 0.
    direction = shell.bond / np.abs(shell.bond).max()
    present = np.abs(direction) > DIRECTION
    leading = direction[np.arange(len(direction)), present.argmax(1)]
    forward = leading > 0
    start = np.where(forward, shell.first, shell.second)
    end = np.where(forward, shell.second, shell.first)
    direction = np.where(forward[:, None], direction, -direction)
    name = np.floor(direction / DIRECTION + OFFSET)
    kind = np.column_stack([sites.place_of_site[start], sites.place_of_site[end], name])
    _, kind = np.unique(kind, axis=0, return_inverse=True)
    order = np.lexsort((kind, sites.cell_of_site[start]))
    n_kinds, left = divmod(len(order), n_cells)
    table = kind[order].reshape(n_cells, -1) if not left else np.empty((0, n_kinds))
    if left or (table != np.arange(n_kinds)).any():
        return CellGrid((1,), np.arange(len(order))[None], len(ELEMENTS))
    return CellGrid(sites.shape, order.reshape(n_cells, n_kinds), len(ELEMENTS))


def _first_rows(shell: Shell, cells: CellGrid, covariance: Tensor) -> Tensor:
    """Rows (6 m, 6 P) of the form tr[K^-1 H K^-1 H] in the curvatures, for the first cell."""
    n = len(covariance) // 3
    blocks = covariance.reshape(n, 3, n, 3).numpy().transpose(0, 2, 1, 3)
    in_cell = cells.first_cell.numpy()[:: len(ELEMENTS)] // len(ELEMENTS)
    i, j = shell.first, shell.second
    near, far = i[in_cell][:, None], j[in_cell][:, None]
    c = blocks[far, j] - blocks[far, i] - blocks[near, j] + blocks[near, i]
    out = np.zeros((len(in_cell), len(ELEMENTS), len(i), len(ELEMENTS)))
    for a, left in enumerate(ELEMENTS):
        for b, right in enumerate(ELEMENTS):
            for x, y in left:
                for z, w in right:
                    out[:, a, :, b] += c[:, :, y, z] * c[:, :, x, w]
    return torch.from_numpy(out.reshape(len(in_cell) * len(ELEMENTS), -1))
