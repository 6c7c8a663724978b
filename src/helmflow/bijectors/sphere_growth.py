"""The map that makes room for a growing sphere in its solvent."""

from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.errors import InputError
from helmflow.fields.sphere import SphereField
from helmflow.polynomials import legendre
from helmflow.shapes import Particles, Values


@final
class SphereGrowth(FixedStepFlow):
    """The flow of a solvent while the radius grows linearly from ``radii[0]`` to ``radii[1]``.

        dx/dt = sum_k c_k(t) v_k(x; R(t)),   c_k(t) = sum_p coefficients[p, k] P_p(2 t - 1)

    with the fields of a `SphereField` and Legendre polynomials P_p. ``coefficients`` is
    (degree + 1, size).
    """

    name = "fitted transport"

    def __init__(
        self,
        field: SphereField,
        coefficients: Tensor,
        radii: tuple[float, float],
        *,
        n_steps: int = 3,
    ) -> None:
        super().__init__(n_steps)
        if coefficients.ndim != 2 or coefficients.shape[1] != field.size:
            shape = tuple(coefficients.shape)
            raise InputError("coefficients", f"shape (degree + 1, {field.size})", shape)
        self.field = field
        self.radii = radii
        self.register_buffer("coefficients", coefficients.to(torch.float64))

    coefficients: Tensor

    def velocity(self, x: Particles, t: float) -> tuple[Particles, Values]:
        """The velocity at time t and its divergence."""
        radius = self.radii[0] + t * (self.radii[1] - self.radii[0])
        weights = torch.from_numpy(legendre(t, len(self.coefficients))) @ self.coefficients
        return self.field.velocity(x, radius, weights)
