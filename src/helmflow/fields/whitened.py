"""The velocities of gradients in the whitened coordinates of a Gaussian base."""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from helmflow.fields.base import Point, TransportField, VelocityField
from helmflow.fields.potential import HarmonicField
from helmflow.shapes import Configs, Values


class Whitening(Protocol):
    """The linear map between displacements u and white noise z of a Gaussian base."""

    dim: int
    precision: Tensor

    def colour(self, z: Tensor) -> Tensor:
        """u = K^(-1/2) z."""
        ...

    def whiten(self, u: Tensor) -> Tensor:
        """z = K^(1/2) u."""
        ...

    def pull(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to z from that with respect to u."""
        ...


@final
class WhitenedField(VelocityField):
    """``du/dt = -K^-1 grad phi_k(u)`` as seen in z = K^(1/2) u, for a base of precision K.

    phi_0 = u K u / 2, then the functions of ``parts`` in turn. x are z (batch, n); the divergence
    of v_k is ``-tr[K^-1 grad grad phi_k]``, in both coordinates.
    """

    def __init__(self, base: Whitening, parts: Sequence[TransportField]) -> None:
        self.base = base
        self.parts = tuple(parts)
        self.size = 1 + sum(part.size for part in parts)

    def stein(self, x: Configs, gradient: Configs, t: float) -> Tensor:
        """S_k (size, batch), with the gradient in z."""
        virial = torch.linalg.vecdot(x, gradient)
        point = Point(self.base.colour(x), None, self.base.colour(gradient), virial)
        harmonic = HarmonicField(self.base.dim)
        return torch.cat([part.stein(point) for part in (harmonic, *self.parts)])

    def velocity(self, x: Configs, t: float, weights: Tensor) -> tuple[Configs, Values]:
        u = self.base.colour(x)
        gradient, trace = torch.zeros_like(u), u.new_zeros(len(u))
        first = 1
        for part in self.parts:
            bent = part.contract(u, weights[first : first + part.size])
            gradient, trace = gradient + bent[0], trace + bent[1]
            first += part.size
        slope = torch.addcmul(self.base.pull(gradient), weights[0], x)
        return -slope, -trace - weights[0] * self.base.dim
