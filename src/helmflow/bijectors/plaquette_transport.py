"""Continuous gauge-equivariant flows of U(1) links, driven by velocities of the plaquettes."""

import math
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.errors import InputError
from helmflow.fields.loops import LoopField
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.manifolds.links import curl, plaquette_angles
from helmflow.polynomials import legendre
from helmflow.shapes import Configs, Values


@final
class PlaquetteTransport(FixedStepFlow):
    """Links (batch, 2, L0, L1) moved so that plaquettes follow dP/dt = sum_k b_k(t) v_k(P).

    ``b_k(t) = sum_p c_pk P_p(2t - 1)`` with Legendre polynomials P_p and the fields v_k of
    `PlaquetteField`. The links follow from the change of the plaquettes: it is the lattice
    Laplacian of a field psi, and links change by the curl of psi, which no gauge transformation
    touches. With ``size + LoopField.size`` columns the fields of `LoopField` follow. log|det| of
    the links is the integral of the divergence in the plaquettes. Whatever
    the coefficients, the flow commutes with gauge transformations, translations, rotations,
    reflections and charge conjugation, and serves at any extents.

    coefficients: (P, size), parameters of the module; size that of `PlaquetteField`, or more.
    Source: M. Luescher, doi:10.1007/s00220-009-0953-7; D. Albergo et al., arXiv:2101.08176.
    """

    def __init__(self, coefficients: Tensor, *, n_steps: int) -> None:
        super().__init__(n_steps)
        self.fields: list[PlaquetteField | LoopField] = [PlaquetteField()]
        if coefficients.shape[1:] == (PlaquetteField.size + LoopField.size,):
            self.fields.append(LoopField())
        elif coefficients.shape[1:] != (PlaquetteField.size,):
            known = f"{PlaquetteField.size} columns, or {LoopField.size} more"
            raise InputError("coefficients", known, tuple(coefficients.shape))
        self.coefficients = nn.Parameter(coefficients.detach().clone())

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """From t = 0 to t = 1."""
        return self._move(x, *super().forward(plaquette_angles(x)))

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """From t = 1 to t = 0."""
        return self._move(y, *super().inverse(plaquette_angles(y)))

    def with_steps(self, n_steps: int) -> "PlaquetteTransport":
        """The same flow, integrated with another number of steps."""
        return PlaquetteTransport(self.coefficients, n_steps=n_steps)

    def velocity(self, x: Configs, t: float) -> tuple[Configs, Values]:
        """dP/dt of plaquettes (batch, L0, L1), and its divergence (batch,)."""
        weights = torch.from_numpy(legendre(t, len(self.coefficients))) @ self.coefficients
        parts = weights.split([field.size for field in self.fields])
        found = [f.contract(x, part) for f, part in zip(self.fields, parts, strict=True)]
        return sum(v for v, _ in found), sum(d for _, d in found)

    def _move(self, x: Configs, angles: Tensor, log_det: Values) -> tuple[Configs, Values]:
        return x + curl(inverse_laplacian(angles - plaquette_angles(x))), log_det


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
