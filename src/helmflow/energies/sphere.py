"""Energies of directions: unit vectors of R^(D + 1)."""

import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.energies.torus import mixture_arrays, require_columns, require_distinct
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

UNIT = 1e-6
"""How far from one the length of a given centre may be; it is then made one."""


class SphereMixture(Energy):
    """``exp(-U) = sum_k w_k exp(kappa_k x . mu_k)``: a mixture of von Mises-Fisher densities.

    ``centres`` (K, D + 1) unit vectors; ``concentration`` kappa > 0 and ``weights`` w > 0, one
    number for all or one per centre; by default weights are 1/K. Raises InputError for vectors
    of another length or two equal ones.
    """

    centres: Tensor
    concentration: Tensor
    log_weights: Tensor

    def __init__(
        self,
        centres: list[list[float]],
        concentration: float | list[float] = 1.0,
        weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        points, kappa, log_weights = mixture_arrays(centres, concentration, weights)
        points = torch.stack([unit_vector("potential.centres", row.tolist()) for row in points])
        require_distinct((points[:, None] - points).norm(dim=-1))
        self.register_buffer("centres", points)
        self.register_buffer("concentration", kappa)
        self.register_buffer("log_weights", log_weights)
        self.dim = points.shape[1] - 1

    def forward(self, x: Configs) -> Values:
        """U of each unit vector (batch, D + 1)."""
        require_columns(x, self.dim + 1)
        exponents = self.log_weights + self.concentration * (x @ self.centres.T)
        return -torch.logsumexp(exponents, -1)


class Watson(Energy):
    """``U = -concentration (x . axis)^2``: the same at x and -x.

    Positive concentrations gather at both ends of the axis, negative ones around its equator.
    """

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


def unit_vector(field: str, vector: list[float]) -> Tensor:
    """A vector of two or more numbers and length one; raises InputError naming ``field``."""
    point = torch.tensor(vector, dtype=torch.float64)
    length = float(point.norm())
    if len(vector) < 2 or not abs(length - 1.0) <= UNIT:
        raise InputError(field, "unit vectors", f"{vector} of length {length:.6g}")
    return point / length
