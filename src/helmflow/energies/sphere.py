"""Energies of directions: unit vectors of R^(D + 1)."""

import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.energies.torus import DirectionMixture, require_columns
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

UNIT = 1e-6
"""How far from one the length of a given centre may be before it is normalised."""


class SphereMixture(DirectionMixture):
    """``exp(-U) = sum_k w_k exp(kappa_k x . mu_k)``: a mixture of von Mises-Fisher densities.

    ``centres`` (K, D + 1) unit vectors; the rest as for `DirectionMixture`. Raises InputError for
    vectors of another length.
    """

    letter = "S"

    @property
    def dim(self) -> int:
        """Of the sphere."""
        return self.centres.shape[1] - 1

    def _points(self, centres: Tensor) -> Tensor:
        return torch.stack([unit_vector("potential.centres", row.tolist()) for row in centres])

    def _distances(self, points: Tensor) -> Tensor:
        return (points[:, None] - points).norm(dim=-1)

    def _similarity(self, x: Configs) -> Tensor:
        return x @ self.centres.T


class AxialMixture(SphereMixture):
    """``exp(-U) = sum_k w_k exp(kappa_k (x . mu_k)^2)``: a mixture of Watson densities.

    The same at x and -x. With unit quaternions (S^3) a mixture of orientations: ``(q . mu)^2`` is
    ``(1 + cos t)/2`` for rotations that differ by the angle t. Centres mu and -mu are one.
    """

    def _distances(self, points: Tensor) -> Tensor:
        return torch.minimum(
            (points[:, None] - points).norm(dim=-1), (points[:, None] + points).norm(dim=-1)
        )

    def _similarity(self, x: Configs) -> Tensor:
        return (x @ self.centres.T).square()


class Watson(Energy):
    """``U = -concentration (x . axis)^2``: the same at x and -x.

    Positive concentrations gather at both ends of the axis, negative ones around its equator.
    """

    letter = "S"
    axis: Tensor

    def __init__(self, axis: list[float], concentration: float) -> None:
        super().__init__()
        self.register_buffer("axis", unit_vector("potential.axis", axis))
        self.concentration = concentration
        self.dim = len(axis) - 1

    def forward(self, x: Configs) -> Values:
        """U of each unit vector (batch, D + 1)."""
        require_columns(x, self.dim + 1)
        return -self.concentration * (x @ self.axis).square()


class PowerSpherical(Energy):
    """``exp(-U) = (1 + x . axis)^concentration``: zero at -axis, smooth wherever it is not.

    Source: N. De Cao, W. Aziz, arXiv:2006.04437.
    """

    letter = "S"
    axis: Tensor

    def __init__(self, axis: list[float], concentration: float) -> None:
        super().__init__()
        if not concentration > 0:
            raise InputError("potential.concentration", "a positive number", concentration)
        self.register_buffer("axis", unit_vector("potential.axis", axis))
        self.concentration = concentration
        self.dim = len(axis) - 1

    def forward(self, x: Configs) -> Values:
        """U of each unit vector (batch, D + 1), +inf at -axis."""
        require_columns(x, self.dim + 1)
        # |x + axis|^2 = 2 (1 + x . axis), without cancellation at -axis
        return -self.concentration * (0.5 * (x + self.axis).square().sum(-1)).log()


class SphericalCauchy(Energy):
    """``exp(-U) = [(1 - rho^2)/(1 + rho^2 - 2 rho x . axis)]^D``: integrates to the area of S^D.

    ``rho`` from 0 (uniform) to below 1. Source: S. Kato, P. McCullagh, arXiv:1510.07679.
    """

    letter = "S"
    axis: Tensor

    def __init__(self, axis: list[float], rho: float) -> None:
        super().__init__()
        if not 0.0 <= rho < 1.0:
            raise InputError("potential.rho", "a number from 0 to below 1", rho)
        self.register_buffer("axis", unit_vector("potential.axis", axis))
        self.rho = rho
        self.dim = len(axis) - 1

    def forward(self, x: Configs) -> Values:
        """U of each unit vector (batch, D + 1)."""
        require_columns(x, self.dim + 1)
        square = (x - self.rho * self.axis).square().sum(-1)
        return self.dim * (square / (1.0 - self.rho**2)).log()


def unit_vector(field: str, vector: list[float]) -> Tensor:
    """A vector of two or more numbers and length one; raises InputError naming ``field``."""
    point = torch.tensor(vector, dtype=torch.float64)
    length = float(point.norm())
    if len(vector) < 2 or not abs(length - 1.0) <= UNIT:
        raise InputError(field, "unit vectors", f"{vector} of length {length:.6g}")
    return point / length
