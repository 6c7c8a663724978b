"""The base's and the target's own potentials as generating functions."""

from collections.abc import Callable

import torch
from torch import Tensor

from helmflow.fields.base import GradientField, Point, TransportField
from helmflow.shapes import Values


class HarmonicField(GradientField):
    """phi = u K u / 2, whose Stein function is the virial of the base's forces."""

    size = 1

    def __init__(self, dim: int) -> None:
        self._dim = dim

    def stein(self, point: Point) -> Tensor:
        """u . grad u_lambda - dim: (1, batch)."""
        return (point.virial - self._dim)[None]


class TargetField(TransportField):
    """phi = u_target(u) and u_target(-u): the exact first-order generators of a crystal's work.

    gradient(u) -> (batch, n) and hessian_trace(u) -> tr[K^-1 grad grad u_target](u), in kT.
    """

    size = 2

    def __init__(
        self,
        gradient: Callable[[Tensor], Tensor],
        hessian_trace: Callable[[Tensor], Tensor],
    ) -> None:
        self._gradient = gradient
        self._hessian_trace = hessian_trace

    def stein(self, point: Point) -> Tensor:
        mirrored = -point.u
        gradient = self._gradient(point.u) if point.gradient is None else point.gradient
        here = torch.linalg.vecdot(gradient, point.direction)
        there = -torch.linalg.vecdot(self._gradient(mirrored), point.direction)
        traces = self._hessian_trace(point.u), self._hessian_trace(mirrored)
        return torch.stack([here - traces[0], there - traces[1]])

    def contract(self, u: Tensor, weights: Tensor) -> tuple[Tensor, Values]:
        here, there = weights.tolist()
        gradient = here * self._gradient(u) - there * self._gradient(-u)
        return gradient, here * self._hessian_trace(u) + there * self._hessian_trace(-u)
