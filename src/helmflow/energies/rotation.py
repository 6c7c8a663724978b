"""Energies of rotations of space, given as unit quaternions."""

import math
from typing import final

import numpy as np
import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.energies.torus import require_columns
from helmflow.errors import InputError
from helmflow.manifolds.rotations import rotation_matrix
from helmflow.shapes import Configs, Values

QUADRATURE = 200
"""Gauss nodes of the one integral in the partition function; the integrand is entire."""


@final
class MatrixFisher(Energy):
    """``U = -tr(F' R)`` for rotation matrices R and a matrix F (3, 3).

    In quaternions it is a Bingham density. Its mode is the rotation closest to F.
    """

    letter = "SO"
    dim = 3
    parameter: Tensor

    def __init__(self, parameter: list[list[float]]) -> None:
        super().__init__()
        if [len(row) for row in parameter] != [3, 3, 3] or not np.isfinite(parameter).all():
            raise InputError("potential.parameter", "three rows of three numbers", parameter)
        self.register_buffer("parameter", torch.tensor(parameter, dtype=torch.float64))

    def forward(self, x: Configs) -> Values:
        """U of each unit quaternion (batch, 4)."""
        require_columns(x, 4)
        return -(rotation_matrix(x) * self.parameter).sum((-2, -1))

    def log_partition_function(self, beta: float) -> float:
        """ln of the integral of exp(-beta U) over SO(3), of volume pi^2.

        With the proper singular values ``s_1 >= s_2 >= |s_3|`` of beta F, I_0 a Bessel function,

            Z/pi^2 = 1/2 int_-1^1 I_0[(s_1 - s_2)(1 - t)/2] I_0[(s_1 + s_2)(1 + t)/2] e^(s_3 t) dt

        Source: T. Lee, arXiv:1710.03746.
        """
        from scipy.special import i0e, roots_legendre

        f = beta * self.parameter.numpy()
        s = np.linalg.svd(f, compute_uv=False)
        s[2] *= math.copysign(1.0, np.linalg.det(f))
        t, weights = roots_legendre(QUADRATURE)
        first, second = 0.5 * (s[0] - s[1]) * (1.0 - t), 0.5 * (s[0] + s[1]) * (1.0 + t)
        exponent = first + second + s[2] * t
        top = float(exponent.max())
        terms = i0e(first) * i0e(second) * np.exp(exponent - top)
        return 2.0 * math.log(math.pi) + top + math.log(0.5 * float(weights @ terms))
