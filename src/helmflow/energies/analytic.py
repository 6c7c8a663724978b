"""Energies whose free energy is known exactly, to test everything else against."""

import math

import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


class HarmonicOscillators(Energy):
    """Independent oscillators, U(x) = 1/2 sum_i k_i x_i^2 for x (batch, d).

    ``stiffness`` (d,): the k_i > 0.
    """

    stiffness: Tensor

    def __init__(self, stiffness: Tensor) -> None:
        super().__init__()
        if stiffness.ndim != 1 or not (stiffness > 0).all():
            raise InputError("stiffness", "a vector of positive numbers", stiffness.tolist())
        self.register_buffer("stiffness", stiffness)

    def forward(self, x: Configs) -> Values:
        """U of each row, differentiable to any order."""
        return 0.5 * (self.stiffness * x.square()).sum(dim=-1)

    def free_energy(self, beta: float) -> float:
        """Reduced free energy -ln Z = -1/2 sum_i ln(2 pi / (beta k_i)), in kT."""
        return 0.5 * float(torch.log(beta * self.stiffness / (2.0 * math.pi)).sum())
