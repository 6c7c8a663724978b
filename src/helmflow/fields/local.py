"""On-site powers of a lattice field."""

from collections.abc import Sequence

import torch
from torch import Tensor

from helmflow.fields.base import Point, TransportField
from helmflow.shapes import Values


class LocalField(TransportField):
    """phi_p = sum over sites of u^p / p for the given powers p >= 2.

    covariance: (n, n) = K^-1 of the base, of which only the diagonal matters here.
    """

    def __init__(self, covariance: Tensor, *, powers: Sequence[int]) -> None:
        self._variance = covariance.diagonal().clone()
        self._powers = tuple(powers)
        self.size = len(self._powers)

    def stein(self, point: Point) -> Tensor:
        """sum u^(p-1) direction - (p-1) sum K^-1_ii u^(p-2): (size, batch)."""
        rows = []
        for p in self._powers:
            slope = torch.linalg.vecdot(point.u ** (p - 1), point.direction)
            rows.append(slope - (p - 1) * (point.u ** (p - 2)) @ self._variance)
        return torch.stack(rows)

    def contract(self, u: Tensor, weights: Tensor) -> tuple[Tensor, Values]:
        gradient, trace = torch.zeros_like(u), u.new_zeros(len(u))
        for p, weight in zip(self._powers, weights, strict=True):
            gradient += weight * u ** (p - 1)
            trace += weight * (p - 1) * ((u ** (p - 2)) @ self._variance)
        return gradient, trace
