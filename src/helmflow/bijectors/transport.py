"""Continuous flows of crystals and fields, driven by local functions of exact divergence."""

from collections.abc import Sequence
from typing import Protocol, final

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.base import require_event
from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.errors import InputError
from helmflow.fields.base import TransportField
from helmflow.polynomials import legendre
from helmflow.shapes import Configs, Values


class Whitening(Protocol):
    """The linear map between displacements u and white noise z of a Gaussian base."""

    dim: int
    precision: Tensor

    def colour(self, z: Tensor) -> Tensor:
        """u = K^(-1/2) z."""

    def whiten(self, u: Tensor) -> Tensor:
        """z = K^(1/2) u."""

    def pull(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to z from that with respect to u."""


@final
class Transport(FixedStepFlow):
    """The flow of du/dlambda = -K^-1 sum_k b_k(lambda) grad phi_k(u) from lambda = 0 to 1.

    d log|det| / dlambda = -sum_k b_k tr[K^-1 grad grad phi_k],   b_k = sum_p c_pk P_p(2 lambda-1)

    phi_0 = u K u / 2, then the functions of ``fields`` in turn; P_p are Legendre polynomials.
    When sum_k b_k S_k = w - <w>_lambda, with S_k the Stein functions of phi_k under
    u_lambda = u_0 + lambda w, the flow carries exp(-u_0) to exp(-u_0 - w) exactly: c is fitted by
    least squares (`helmflow.training.transport_fit`).

    base: its whitening. coefficients: (P, 1 + sum of the fields' sizes). Configurations are
    (batch, n) displacements of zero mean; integration is in whitened coordinates.
    """

    def __init__(
        self,
        base: Whitening,
        fields: Sequence[TransportField],
        coefficients: np.ndarray,
        *,
        n_steps: int,
    ) -> None:
        super().__init__(n_steps)
        size = 1 + sum(field.size for field in fields)
        if coefficients.ndim != 2 or coefficients.shape[1] != size:
            raise InputError("coefficients", f"{size} columns", coefficients.shape)
        self.base = base
        self.fields = tuple(fields)
        self.coefficients = coefficients

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """Carry samples of the base to the target."""
        z, log_det = super().forward(self._whiten(x))
        return self.base.colour(z), log_det

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """Carry samples of the target to the base."""
        z, log_det = super().inverse(self._whiten(y))
        return self.base.colour(z), log_det

    def with_steps(self, n_steps: int) -> "Transport":
        """The same flow, integrated with another number of steps."""
        return Transport(self.base, self.fields, self.coefficients, n_steps=n_steps)

    def velocity(self, x: Configs, t: float) -> tuple[Configs, Values]:
        """dz/dlambda (batch, n) at whitened coordinates x and lambda = t; divergence (batch,)."""
        weights = torch.from_numpy(legendre(t, len(self.coefficients)) @ self.coefficients)
        u = self.base.colour(x)
        gradient, trace = torch.zeros_like(u), u.new_zeros(len(u))
        first = 1
        for field in self.fields:
            part = field.contract(u, weights[first : first + field.size])
            gradient, trace = gradient + part[0], trace + part[1]
            first += field.size
        slope = torch.addcmul(self.base.pull(gradient), weights[0], x)
        return -slope, -trace - weights[0] * self.base.dim

    def _whiten(self, x: Tensor) -> Tensor:
        require_event(x, self.base.precision.shape[:1])
        return self.base.whiten(x)
