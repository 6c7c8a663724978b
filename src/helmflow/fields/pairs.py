"""Quadratic and radial functions of the bonds of a crystal, shell by shell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from helmflow.fields.base import Point, TransportField
from helmflow.shapes import Values

if TYPE_CHECKING:
    from helmflow.kernels.gaussians import Grid

Array = np.ndarray


@dataclass(frozen=True)
class Shell:
    """Bonds of about one length between one pair of species.

    ``rank``: 0 for the nearest distance of the crystal, 1 for the next; ``name``: such as "Ar-Kr".
    """

    first: Array  # (P,) int32
    second: Array  # (P,) int32
    bond: Array  # (P, 3) reference vectors
    radius: float
    name: str
    rank: int = 0


def bond_shells(
    positions: Array, cell: Array, species: tuple[str, ...], n_shells: int
) -> list[Shell]:
    """Bonds of the ``n_shells`` shortest distances, every bond once, periodic images included.

    Bonds belong together when their lengths differ by less than 2 % and their species agree. The
    bond of a site with its own image never changes and is left out. Sorted by rank, then name.
    """
    import vesin

    volume_per_site = abs(np.linalg.det(cell)) / len(positions)
    cutoff = 2.6 * volume_per_site ** (1 / 3)
    i, j, bond, r = vesin.NeighborList(cutoff=cutoff, full_list=False).compute(
        points=positions, box=cell, periodic=True, quantities="ijDd"
    )
    moving = i != j
    i, j, bond, r = i[moving], j[moving], bond[moving], r[moving]
    kinds = np.sort(np.array(species)[np.stack([i, j])], axis=0)
    shells = []
    for kind in np.unique(kinds, axis=1).T:
        members = np.flatnonzero((kinds == kind[:, None]).all(0))
        members = members[np.argsort(r[members], kind="stable")]
        breaks = np.flatnonzero(np.diff(r[members]) > 0.02 * r[members][:-1]) + 1
        for group in np.split(members, breaks):
            order = group[np.lexsort((j[group], i[group]))]
            shells.append(
                Shell(
                    i[order].astype(np.int32),
                    j[order].astype(np.int32),
                    np.ascontiguousarray(bond[order]),
                    float(r[order].mean()),
                    "-".join(kind),
                )
            )
    shells.sort(key=lambda shell: shell.radius)
    rank, ranked = 0, shells[:1]
    for before, shell in pairwise(shells):
        rank += shell.radius > 1.02 * before.radius
        ranked.append(replace(shell, rank=rank))
    return sorted(
        (shell for shell in ranked if shell.rank < n_shells),
        key=lambda shell: (shell.rank, shell.name),
    )


def joined(shells: Sequence[Shell]) -> Shell:
    """The bonds of several shells as one."""
    first, second, bond = (
        np.concatenate([getattr(shell, part) for shell in shells])
        for part in ("first", "second", "bond")
    )
    radius = float(np.linalg.norm(bond, axis=1).mean())
    return Shell(first, second, bond, radius, ", ".join(shell.name for shell in shells))


class RadialGrid(NamedTuple):
    """Evenly spaced Gaussians of the length of a bond."""

    low: float
    high: float
    n_radial: int

    @classmethod
    def around(
        cls, shell: Shell, covariance: Tensor, n_radial: int, reach: tuple[float, float]
    ) -> "RadialGrid":
        """``reach`` standard deviations of the bond length below and above the shell's radius."""
        unit = shell.bond / np.linalg.norm(shell.bond, axis=1, keepdims=True)
        spread = _spread(shell, covariance)
        sigma = float(np.sqrt(np.einsum("pa,pab,pb->p", unit, spread, unit).mean()))
        low = max(shell.radius - reach[0] * sigma, 0.3 * shell.radius)
        return cls(low, shell.radius + reach[1] * sigma, n_radial)

    def even(self) -> "Grid":
        """As kernels take it: 1.1 spacings wide."""
        from helmflow.kernels.gaussians import Grid

        spacing = (self.high - self.low) / max(self.n_radial - 1, 1)
        return Grid(float(self.low), spacing, 1.1 * spacing, self.n_radial)


class PairField(TransportField):
    """Bond functions of one shell: two quadratic forms and Gaussians of the bond length.

    phi = sum (n0.w)^2/2,  sum w^2/2,  sum exp(-(|d0 + w| - c_k)^2 / 2 s^2)  and, if ``mirrored``,
    the same Gaussians of |d0 - w|, with w the relative displacement of the bond d0. All radial
    functions are bounded, so that no rare configuration can carry a huge value.

    covariance: (3n, 3n) = K^-1 of the base.
    """

    def __init__(
        self, shell: Shell, covariance: Tensor, grid: RadialGrid, *, mirrored: bool
    ) -> None:
        from helmflow.kernels.radial import Bonds

        spread = _spread(shell, covariance)[:, *np.triu_indices(3)].ravel()
        self.shell = shell
        self.grid = grid
        self._bonds = Bonds(shell.first, shell.second, shell.bond.ravel(), spread, grid.even())
        self._signs = (1.0, -1.0) if mirrored else (1.0,)
        self.size = 2 + grid.n_radial * len(self._signs)

    def stein(self, point: Point) -> Tensor:
        from helmflow.kernels import radial

        n_radial = self.grid.n_radial
        out = np.empty((self.size, len(point.u)))
        both = np.empty((2 + n_radial, len(point.u)))
        u, direction = point.u.contiguous().numpy(), point.direction.contiguous().numpy()
        for k, sign in enumerate(self._signs):
            radial.stein(u, direction, self._bonds, sign, both)
            out[:2] = both[:2]
            out[2 + k * n_radial : 2 + (k + 1) * n_radial] = both[2:]
        return torch.from_numpy(out)

    def contract(self, u: Tensor, weights: Tensor) -> tuple[Tensor, Values]:
        from helmflow.kernels import radial

        gradient, trace = np.empty(u.shape), np.empty(len(u))
        b, mirrored = weights.contiguous().numpy(), len(self._signs) - 1
        radial.contract(u.contiguous().numpy(), self._bonds, b, mirrored, gradient, trace)
        return torch.from_numpy(gradient), torch.from_numpy(trace)

    def bonds(self, u: Tensor, weights: Array) -> tuple[Array, Array]:
        """Gradient (batch, n) of the weighted sum, and nine numbers of every bond (batch, 9 P).

        The Hessian (xx xy xz yy yz zz) of a bond's part in w, and the gradient of tr[C hess].
        """
        from helmflow.kernels import response

        gradient, mirrored = np.empty(u.shape), len(self._signs) - 1
        numbers = np.empty((len(u), response.NUMBERS * len(self.shell.first)))
        rows = u.contiguous().numpy()
        response.bonds(rows, self._bonds, weights, mirrored, gradient, numbers)
        return gradient, numbers


def _spread(shell: Shell, covariance: Tensor) -> Array:
    """Covariance (P, 3, 3) of the relative displacement of every bond."""
    n = len(covariance) // 3
    blocks = covariance.reshape(n, 3, n, 3).numpy()
    i, j = shell.first, shell.second
    return blocks[i, :, i] + blocks[j, :, j] - blocks[i, :, j] - blocks[j, :, i]
