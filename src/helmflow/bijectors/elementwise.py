"""Monotone maps of single numbers whose parameters come from outside, from a conditioner."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.errors import InputError


class Elementwise(ABC):
    """A monotone map of a number, with ``n_parameters`` parameters per number.

    To add one: `forward` and `inverse` take numbers (...) and parameters (..., n_parameters)
    and return the mapped numbers with the logarithm of the derivative of the map just applied,
    both (...). Parameters zero must be the identity, so that a network whose last layer starts
    at zero starts a flow as the identity. There are no weights and no state.
    """

    n_parameters: int

    @abstractmethod
    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``y = f(x)`` and ``log dy/dx``."""

    @abstractmethod
    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``x = f^-1(y)`` and ``log dx/dy``."""


@final
class ShiftScale(Elementwise):
    """``y = x exp(s) + t`` with parameters (s, t): the affine coupling of real variables."""

    n_parameters = 2

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = parameters.unbind(-1)
        return x * log_scale.exp() + shift, log_scale

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale, shift = parameters.unbind(-1)
        return (y - shift) * (-log_scale).exp(), -log_scale


@final
class Composed(Elementwise):
    """Several elementwise maps one after the other, their parameters side by side."""

    def __init__(self, maps: Sequence[Elementwise]) -> None:
        if not maps:
            raise InputError("maps", "at least one elementwise map", "none")
        self.maps = tuple(maps)
        self._sizes = [f.n_parameters for f in self.maps]
        self.n_parameters = sum(self._sizes)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(x)
        for f, part in zip(self.maps, parameters.split(self._sizes, -1), strict=True):
            x, log_derivative = f.forward(x, part)
            total = total + log_derivative
        return x, total

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(y)
        parts = parameters.split(self._sizes, -1)
        for f, part in zip(reversed(self.maps), reversed(parts), strict=True):
            y, log_derivative = f.inverse(y, part)
            total = total + log_derivative
        return y, total
