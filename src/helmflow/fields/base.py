"""Local functions of displacements and their Stein functions."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from helmflow.shapes import Values


class Point(NamedTuple):
    """Where Stein functions are evaluated, one row per configuration."""

    u: Tensor  # (batch, n) displacements
    gradient: Tensor  # of the target's reduced potential
    direction: Tensor  # K^-1 grad u_lambda
    virial: Tensor  # (batch,) u . grad u_lambda


class Field(ABC):
    """Functions phi_k(u), k < size, that generate statistics with a known mean of zero.

    S_k = (K^-1 grad phi_k) . grad u_lambda - tr[K^-1 grad grad phi_k],   < S_k >_lambda = 0

    by partial integration (Stein's identity), for any positive K.
    """

    size: int

    @abstractmethod
    def stein(self, point: Point) -> Tensor:
        """S_k at every configuration: (size, batch)."""


class TransportField(Field):
    """Functions that can also drive a flow: their weighted sum is available with its trace."""

    @abstractmethod
    def contract(self, u: Tensor, weights: Tensor) -> tuple[Tensor, Values]:
        """Gradient (batch, n) and tr[K^-1 grad grad] (batch,) of sum_k weights_k phi_k(u)."""
