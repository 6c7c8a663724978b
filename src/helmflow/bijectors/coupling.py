"""Couplings: some coordinates move, by a map whose parameters depend on those that stay."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from helmflow.bijectors.base import TwoWay
from helmflow.shapes import Configs, Values


class ConditionedMap(Protocol):
    """What a coupling applies: an `Elementwise`, or a map that mixes a few numbers."""

    def forward(self, x: Tensor, parameters: Any) -> tuple[Tensor, Tensor]:
        """``f(x)`` and numbers (batch, ...) whose sum over a row is ``log|det|``."""
        ...

    def inverse(self, y: Tensor, parameters: Any) -> tuple[Tensor, Tensor]:
        """``f^-1(y)`` and numbers whose sum over a row is ``log|det|`` of the inverse."""
        ...


class Split(NamedTuple):
    """A configuration cut in two: ``moving``, the parameters of its map, and how to put it back.

    ``parameters`` depend on what stays alone, and ``join(moved)`` is the configuration with the
    moving part replaced.
    """

    moving: Tensor
    parameters: Any
    join: Callable[[Tensor], Configs]


class Coupling(TwoWay, ABC):
    """Some coordinates a moved by a map f whose parameters depend on the others b, which stay.

        y_a = f(x_a; h(x_b)),   y_b = x_b,   log|det| = sum ln f'

    To add one: set ``f`` and implement `split`. Source: L. Dinh, J. Sohl-Dickstein, S. Bengio,
    arXiv:1605.08803.
    """

    f: ConditionedMap

    @abstractmethod
    def split(self, x: Configs) -> Split:
        """The same for x and for its image, but for what moves."""

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        moving, parameters, join = self.split(x)
        f = self.f.forward if sign > 0 else self.f.inverse
        moved, log_slope = f(moving, parameters)
        return join(moved), log_slope.flatten(1).sum(1)
