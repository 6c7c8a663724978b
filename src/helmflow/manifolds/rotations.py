"""Rotations of space: unit quaternions with antipodes identified."""

import math
from typing import final

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import Sphere
from helmflow.shapes import Configs


@final
class Rotations(Manifold):
    """SO(3): rows (w, x, y, z) are unit quaternions, and q and -q are one rotation.

    Metric and Haar measure are those of the sphere S^3 of quaternions, each rotation counted
    once: volume pi^2, and the distance of two rotations is half the angle between them, pi/2 at
    most. Either quaternion of a pair may be given, and either may be returned.
    """

    letter = "SO"
    n_coordinates, n_features = 4, 9
    log_volume = 2.0 * math.log(math.pi)
    grid_sizes = (29, 36)
    convention = " (Haar measure of unit quaternions, q and -q one point)"

    def __init__(self, dim: int = 3) -> None:
        if dim != 3:
            raise InputError("manifold", "SO3, the rotations of space", f"SO{dim}")
        self.dim = dim
        self._sphere = Sphere(3)

    @property
    def cover(self) -> Sphere:
        return self._sphere

    def aliases(self, x: Configs) -> list[Configs]:
        return [-x]

    def features(self, x: Configs) -> Tensor:
        """The matrix of each rotation, row by row (batch, 9): the same for q and -q."""
        return rotation_matrix(x).flatten(-2)

    def require(self, x: Configs) -> None:
        self.cover.require(x)

    def uniform(self, n: int, generator: torch.Generator) -> Configs:
        return self.cover.uniform(n, generator)

    def exp(self, x: Configs, v: Configs) -> Configs:
        return self.cover.exp(x, v)

    def log(self, x: Configs, y: Configs) -> Configs:
        """The tangent vector at x to y or -y, whichever is closer."""
        nearer = torch.where((x * y).sum(-1, keepdim=True) < 0.0, -y, y)
        return self.cover.log(x, nearer)

    def tangent(self, x: Configs, v: Configs) -> Configs:
        return self.cover.tangent(x, v)

    def quadrature(self, n: int) -> tuple[Tensor, Tensor]:
        """The grid of S^3, which holds -x with every x, on one side of a plane."""
        nodes, weights = self.cover.quadrature(n)
        half = nodes[:, 1] > 0.0
        return nodes[half], weights[half]


def rotation_matrix(q: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of unit quaternions (..., 4): ``R v = q v q*``.

    ``R = (w^2 - |u|^2) I + 2 u u' + 2 w [u]`` with ``q = (w, u)`` and ``[u] v = u x v``.
    """
    w, x, y, z = q.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    rows = (
        (w * w + xx - yy - zz, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        (2.0 * (x * y + w * z), w * w - xx + yy - zz, 2.0 * (y * z - w * x)),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - xx - yy + zz),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
