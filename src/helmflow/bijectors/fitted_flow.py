"""Flows of velocity fields whose weights were fitted, and how they carry configurations."""

import math
from collections.abc import Callable
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.base import require_event
from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.errors import InputError
from helmflow.fields.base import VelocityField
from helmflow.fields.whitened import Whitening
from helmflow.manifolds.links import curl, plaquette_angles
from helmflow.polynomials import legendre
from helmflow.shapes import Configs, Values

Move = Callable[[Configs], tuple[Configs, Values]]


class Chart:
    """How configurations follow the coordinates that a velocity field moves: as they are, here."""

    def carry(self, x: Configs, move: Move) -> tuple[Configs, Values]:
        """Configurations whose coordinates are those of x, moved; and log|det|."""
        return move(x)


class Whitened(Chart):
    """Displacements (batch, n) are moved in the whitened coordinates of a Gaussian base."""

    def __init__(self, base: Whitening) -> None:
        self.base = base

    def carry(self, x: Configs, move: Move) -> tuple[Configs, Values]:
        require_event(x, self.base.precision.shape[:1])
        z, log_det = move(self.base.whiten(x))
        return self.base.colour(z), log_det


class Plaquettes(Chart):
    """U(1) links (batch, 2, L0, L1) follow their plaquettes.

    The change of the plaquettes, of sum zero, is the lattice Laplacian of a field psi; links
    change by the curl of psi, which no gauge transformation touches. log|det| of the links is
    that of the plaquettes, restricted to changes of sum zero.
    Source: M. Luescher, doi:10.1007/s00220-009-0953-7; D. Albergo et al., arXiv:2101.08176.
    """

    def carry(self, x: Configs, move: Move) -> tuple[Configs, Values]:
        angles = plaquette_angles(x)
        moved, log_det = move(angles)
        return x + curl(inverse_laplacian(moved - angles)), log_det


@final
class FittedFlow(FixedStepFlow):
    """The flow of ``dx/dt = sum_k c_k(t) v_k(x, t)``, t from 0 to 1, in a chart's coordinates.

    c_k(t) = sum_p coefficients[p, k] P_p(2 t - 1) with Legendre polynomials P_p and the
    velocities v_k of ``field``. When sum_k c_k S_k = w - <w>_t, with S_k their Stein functions
    under u_t and w = du_t/dt, the flow carries exp(-u_0) to exp(-u_1) exactly: coefficients are
    fitted by least squares (`helmflow.training.transport_fit`). Raises InputError unless they are
    (degree + 1, field.size).
    """

    name = "fitted transport"

    def __init__(
        self,
        field: VelocityField,
        coefficients: Tensor | np.ndarray,
        chart: Chart | None = None,
        *,
        n_steps: int,
    ) -> None:
        super().__init__(n_steps)
        if coefficients.ndim != 2 or coefficients.shape[1] != field.size:
            raise InputError("coefficients", f"{field.size} columns", tuple(coefficients.shape))
        self.field = field
        # no parameter: a fit is never trained, and stays in double precision whatever is
        self.coefficients = torch.as_tensor(coefficients, dtype=torch.float64).detach().clone()
        self.chart = chart or Chart()

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        return self.chart.carry(x, partial(super().directed, sign=sign))

    def velocity(self, x: Configs, t: float) -> tuple[Configs, Values]:
        weights = torch.from_numpy(legendre(t, len(self.coefficients))) @ self.coefficients
        return self.field.velocity(x, t, weights)


def inverse_laplacian(change: Tensor) -> Tensor:
    """psi (batch, L0, L1) of mean zero with ``4 psi(n) - sum of neighbours = change(n)``.

    The sum of ``change`` over the lattice must be zero.
    """
    modes = [
        4.0 * torch.sin(math.pi * torch.arange(extent, dtype=torch.float64) / extent).square()
        for extent in change.shape[1:]
    ]
    eigenvalues = modes[0][:, None] + modes[1][: change.shape[2] // 2 + 1]
    # the constant mode of a sum of zero: any number does, infinity removes its rounding
    eigenvalues[0, 0] = math.inf
    return torch.fft.irfft2(torch.fft.rfft2(change) / eigenvalues, s=change.shape[1:])
