"""Many-body functions of the nearest neighbours of every site."""

import numpy as np
import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.fields.base import Point, TransportField
from helmflow.fields.pairs import RadialGrid, Shell
from helmflow.shapes import Values

Array = np.ndarray
JITTER = 1e-13
"""Relative addition to a covariance that may be singular in a very small crystal."""


class TripletField(TransportField):
    """Squares of the density, asymmetry and angular distribution around every site.

    phi = sum_i S_m^2 / 2,  sum_i |P_m|^2 / 2,  sum_i Q_m : Q_m / 2  for every Gaussian m, with S,
    P, Q the sums over neighbours of p_m(r), p_m(r) n and p_m(r) n n (`helmflow.kernels.triplets`).
    They are bounded and couple pairs of bonds that share a site, as the second order of the
    expansion of a transport map in the anharmonicity does.

    neighbours: (n, k) sites and bonds (n, k, 3) of as many neighbours of every site. covariance:
    (3n, 3n) = K^-1 of the base. ``grid``: Gaussians of the bond length.
    """

    def __init__(
        self, neighbours: Array, bonds: Array, covariance: Tensor, grid: RadialGrid
    ) -> None:
        from helmflow.kernels.triplets import FORMS, WIDTH, Surroundings

        n, k = neighbours.shape
        if bonds.shape != (n, k, 3):
            raise InputError("bonds", f"shape ({n}, {k}, 3)", bonds.shape)
        joint, kind = _distinct(_joint_covariance(neighbours, covariance))
        covariances = np.stack(
            [
                [c[3 * j + a, 3 * j + b] for j in range(k) for a in range(3) for b in range(a, 3)]
                for c in joint
            ]
        )
        size = -(-3 * k // WIDTH) * WIDTH
        factor = np.zeros((len(joint), size, size))
        for c, out in zip(joint, factor, strict=True):
            shifted = c + JITTER * np.trace(c) * np.eye(3 * k)
            out[: 3 * k, : 3 * k] = np.linalg.cholesky(shifted)
        self.grid = grid
        self.size = FORMS * grid.n_radial
        self._surroundings = Surroundings(
            neighbour=neighbours.astype(np.int64).ravel(),
            bond=np.ascontiguousarray(bonds, dtype=np.float64).ravel(),
            kind=kind,
            covariance=covariances,
            factor=factor,
            grid=grid.even(),
        )

    def stein(self, point: Point) -> Tensor:
        from helmflow.kernels import triplets

        out = np.empty((self.size, len(point.u)))
        u, direction = point.u.contiguous().numpy(), point.direction.contiguous().numpy()
        triplets.stein(u, direction, self._surroundings, out)
        return torch.from_numpy(out)

    def contract(self, u: Tensor, weights: Tensor) -> tuple[Tensor, Values]:
        from helmflow.kernels import triplets

        gradient, trace = np.empty(u.shape), np.empty(len(u))
        triplets.contract(
            u.contiguous().numpy(),
            self._surroundings,
            weights.contiguous().numpy(),
            gradient,
            trace,
        )
        return torch.from_numpy(gradient), torch.from_numpy(trace)


def has_equal_neighbours(shell: Shell, n: int, *, most: int) -> bool:
    """Whether every one of n sites has the same number of bonds in a shell, ``most`` at most."""
    counts = np.bincount(np.concatenate([shell.first, shell.second]), minlength=n)
    return bool(counts.min() == counts.max() <= most)


def nearest_neighbours(shell: Shell, n: int) -> tuple[Array, Array]:
    """Neighbours (n, k) and bonds (n, k, 3) of every site from a shell that lists bonds once."""
    i = np.concatenate([shell.first, shell.second]).astype(np.int64)
    j = np.concatenate([shell.second, shell.first]).astype(np.int64)
    d = np.concatenate([shell.bond, -shell.bond])
    # The same order of directions at every site, so that equal surroundings look equal.
    keys = np.round(d / np.abs(d).max(), 6)
    order = np.lexsort((keys[:, 2], keys[:, 1], keys[:, 0], i))
    return j[order].reshape(n, -1), d[order].reshape(n, -1, 3)


def _joint_covariance(neighbours: Array, covariance: Tensor) -> Array:
    """Covariance (n, 3k, 3k) of the relative displacements of all bonds of every site."""
    n, k = neighbours.shape
    blocks = covariance.reshape(n, 3, n, 3).numpy().transpose(0, 2, 1, 3)
    site = np.arange(n)
    far = blocks[neighbours[:, :, None], neighbours[:, None, :]]
    mixed = blocks[neighbours, site[:, None]]  # (n, k, 3, 3): far, near
    joint = far - mixed[:, :, None] - mixed.transpose(0, 1, 3, 2)[:, None]
    joint = joint + blocks[site, site][:, None, None]
    return joint.transpose(0, 1, 3, 2, 4).reshape(n, 3 * k, 3 * k)


def _distinct(joint: Array) -> tuple[list[Array], Array]:
    """The different matrices, and which of them each site has."""
    distinct: list[Array] = []
    kind = np.empty(len(joint), np.int64)
    for site, matrix in enumerate(joint):
        scale = 1e-9 * np.abs(matrix).max()
        for which, known in enumerate(distinct):
            if np.abs(matrix - known).max() <= scale:
                kind[site] = which
                break
        else:
            kind[site] = len(distinct)
            distinct.append(matrix)
    return distinct, kind
