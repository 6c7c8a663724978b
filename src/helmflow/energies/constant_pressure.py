"""OpenMM Systems in a box that varies: configurations that carry their box."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.errors import InputError
from helmflow.shapes import Particles, Values

BAR = 0.0602214076
"""1 bar in kJ/mol per cubic nanometre."""

BOX_ROWS = 3
"""Rows of a configuration that hold box vectors."""


class ConstantPressure(Energy):
    """U(x; box) + p V in kJ/mol of positions with their box: the canonical weight at pressure p.

    x is (batch, n + 3, 3): the positions of n particles and the three box vectors, in nm, see
    `with_boxes`. exp(-beta (U + p V)) is a density over positions and volume, which is what an
    isotropic barostat that moves molecules samples; V is the box's. ``pressure`` is in bar.
    Not differentiable. Raises ``InputError`` for a System without a box.
    """

    costly = True

    def __init__(self, energy: OpenMMEnergy, pressure: float) -> None:
        super().__init__()
        if not energy.is_periodic:
            raise InputError("pressure", "a periodic system", "one without a box")
        if not np.isfinite(pressure):
            raise InputError("pressure", "a number of bar", pressure)
        self.openmm = energy
        self.pressure = float(pressure)

    @property
    def n_particles(self) -> int:
        """Number of particles."""
        return self.openmm.n_particles

    def forward(self, x: Particles) -> Values:
        """U + p V (batch,) in kJ/mol."""
        if torch.is_grad_enabled() and x.requires_grad:
            raise InputError("map", "none at constant pressure", "one that needs gradients")
        if x.ndim != 3 or x.shape[1:] != (self.n_particles + BOX_ROWS, 3):
            expected = f"(batch, {self.n_particles} + {BOX_ROWS}, 3), positions and box"
            raise InputError("x", expected, tuple(x.shape))
        boxes = x[:, -BOX_ROWS:]
        energy = self.openmm.forward(x[:, :-BOX_ROWS], boxes.detach().cpu().numpy())
        return energy + self.pressure * BAR * torch.linalg.det(boxes).abs()


def with_boxes(positions: ArrayLike | Tensor, boxes: ArrayLike | Tensor) -> Tensor:
    """Positions (n, particles, 3) and box vectors (n, 3, 3), in nm, as configurations.

    Raises ``InputError`` for shapes that do not fit.
    """
    x, box = (
        torch.from_numpy(np.array(np.asarray(a), dtype=np.float64)) for a in (positions, boxes)
    )
    if x.ndim != 3 or x.shape[2] != 3 or box.shape != (len(x), BOX_ROWS, 3):
        expected = "positions (n, particles, 3) and boxes (n, 3, 3)"
        raise InputError("boxes", expected, f"{tuple(x.shape)} and {tuple(box.shape)}")
    return torch.cat([x, box], 1)
