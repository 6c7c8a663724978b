"""Velocity fields that drive flows, linear in their weights, and their Stein functions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from helmflow.shapes import Configs, Values


class VelocityField(ABC):
    """Velocities v_k, k < size, of configurations x, which may follow the path's parameter t.

    To add one: ``size`` and the two methods. Whatever has them can be fitted to the work along a
    path (`helmflow.training.transport_fit`) and integrated (`FittedFlow`).
    """

    size: int

    @abstractmethod
    def stein(self, x: Configs, gradient: Configs, t: float) -> Tensor:
        """``div v_k - v_k . gradient`` of every velocity: (size, batch).

        By partial integration (Stein's identity) their mean under exp(-u) is zero when
        ``gradient`` is that of u.
        """

    @abstractmethod
    def velocity(self, x: Configs, t: float, weights: Tensor) -> tuple[Configs, Values]:
        """``sum_k weights_k v_k``, shaped like x, and its divergence (batch,)."""


@final
class JointField(VelocityField):
    """The velocities of several fields, one after the other."""

    def __init__(self, parts: Sequence[VelocityField]) -> None:
        self.parts = tuple(parts)
        self.size = sum(part.size for part in parts)

    def stein(self, x: Configs, gradient: Configs, t: float) -> Tensor:
        return torch.cat([part.stein(x, gradient, t) for part in self.parts])

    def velocity(self, x: Configs, t: float, weights: Tensor) -> tuple[Configs, Values]:
        shares = weights.split([part.size for part in self.parts])
        pairs = [p.velocity(x, t, w) for p, w in zip(self.parts, shares, strict=True)]
        zero = torch.tensor(0.0)
        return sum((v for v, _ in pairs), zero), sum((d for _, d in pairs), zero)


class Point(NamedTuple):
    """Where Stein functions of gradients are evaluated, one row per configuration.

    What all of them need is computed once. ``gradient`` is None where it is not known.
    """

    u: Tensor  # (batch, n) displacements
    gradient: Tensor | None  # of the target's reduced potential
    direction: Tensor  # K^-1 grad u_lambda
    virial: Tensor  # (batch,) u . grad u_lambda


class GradientField(ABC):
    """Functions phi_k(u) of displacements, k < size, with velocities ``v_k = -K^-1 grad phi_k``.

    S_k = (K^-1 grad phi_k) . grad u_lambda - tr[K^-1 grad grad phi_k],   < S_k >_lambda = 0

    for any positive K.
    """

    size: int

    @abstractmethod
    def stein(self, point: Point) -> Tensor:
        """S_k at every configuration: (size, batch)."""


class TransportField(GradientField):
    """Functions that can also drive a flow: their weighted sum is available with its trace."""

    @abstractmethod
    def contract(self, u: Tensor, weights: Tensor) -> tuple[Tensor, Values]:
        """Gradient (batch, n) and tr[K^-1 grad grad] (batch,) of sum_k weights_k phi_k(u)."""
