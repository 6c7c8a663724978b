"""Energies that couple angles, directions and lengths in one row of coordinates."""

import math
from typing import final

import torch

from helmflow.energies.base import Energy
from helmflow.energies.torus import require_columns
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


@final
class DipoleOnSpring(Energy):
    """A dipole on a spring in a field that turns: T1 x S2 x R1, coordinates (t, x, z).

    ``U = stiffness/2 (z - pull x_3)^2 - field (x_1 cos t + x_2 sin t)``: the direction x follows
    the field at the angle t in the plane, and its height pulls the spring z.
    """

    dim = 4

    def __init__(self, field: float, stiffness: float, pull: float) -> None:
        super().__init__()
        for name, value in (("field", field), ("stiffness", stiffness)):
            if not value > 0:
                raise InputError(f"potential.{name}", "a positive number", value)
        self.field, self.stiffness, self.pull = field, stiffness, pull

    def forward(self, x: Configs) -> Values:
        """U of each row (batch, 5): angle, three coordinates of the direction, length."""
        require_columns(x, 5)
        along = x[:, 1] * torch.cos(x[:, 0]) + x[:, 2] * torch.sin(x[:, 0])
        stretch = x[:, 4] - self.pull * x[:, 3]
        return 0.5 * self.stiffness * stretch.square() - self.field * along

    def log_partition_function(self, beta: float) -> float:
        """ln of the integral of exp(-beta U), with that of the sphere over the field."""
        f, k = beta * self.field, beta * self.stiffness
        sphere = math.log(4.0 * math.pi * math.sinh(f) / f)
        return math.log(2.0 * math.pi) + sphere + 0.5 * math.log(2.0 * math.pi / k)
