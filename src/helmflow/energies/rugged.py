"""A rugged landscape of many angles whose partition function is known."""

import math

import numpy as np
import torch

from helmflow.energies.base import Energy
from helmflow.energies.torus import require_columns
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

QUADRATURE = 1024
"""Steps per angle of the transfer matrix; the integrand is entire and periodic."""


class SinesAndCosines(Energy):
    """``U = height sum_i sin(p x_i) cos(q x_(i+1))`` over a chain of angles: (p q)^D minima or so.

    ``frequencies`` (p, q). Neighbours frustrate each other, so the minima have many depths.
    """

    letter = "T"

    def __init__(self, dim: int, height: float, frequencies: list[int]) -> None:
        super().__init__()
        if dim < 2:
            raise InputError("potential.dim", "two angles or more", dim)
        if len(frequencies) != 2 or min(frequencies) < 1:
            raise InputError("potential.frequencies", "two positive whole numbers", frequencies)
        self.dim = dim
        self.height = height
        self.frequencies = tuple(frequencies)

    def forward(self, x: Configs) -> Values:
        """U of each row of angles (batch, D)."""
        require_columns(x, self.dim)
        p, q = self.frequencies
        return self.height * (torch.sin(p * x[:, :-1]) * torch.cos(q * x[:, 1:])).sum(-1)

    def log_partition_function(self, beta: float) -> float:
        """ln of the integral of exp(-beta U) by the transfer matrix, exact to rounding."""
        p, q = self.frequencies
        x = 2.0 * math.pi * np.arange(QUADRATURE) / QUADRATURE
        matrix = np.exp(-beta * self.height * np.outer(np.sin(p * x), np.cos(q * x)))
        vector, log_z = np.ones(QUADRATURE), 0.0
        for _ in range(self.dim - 1):
            vector = matrix @ vector * (2.0 * math.pi / QUADRATURE)
            log_z += math.log(vector.max())
            vector /= vector.max()
        return log_z + math.log(vector.sum() * 2.0 * math.pi / QUADRATURE)
