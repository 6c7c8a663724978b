"""Invertible maps that know the volume they stretch."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar, cast, final

import torch
from torch import nn

from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B", bound="Bijector")


class Bijector(nn.Module, ABC):
    """An invertible map of configurations, base to target (or state A to state B).

    To add one: implement `forward` and `inverse`, each returning the mapped configurations
    (batch, *event) and the log-determinant (batch,) of the map just applied, so that
    ``inverse(forward(x))`` returns x and minus the same log-determinant.
    """

    @abstractmethod
    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """``y = f(x)`` and ``log|det df/dx|``."""

    @abstractmethod
    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """``x = f^-1(y)`` and ``log|det df^-1/dy|``."""

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        """`forward` for sign 1, `inverse` for sign -1."""
        return self.forward(x) if sign > 0 else self.inverse(x)

    if TYPE_CHECKING:

        def __call__(self, x: Configs) -> tuple[Configs, Values]:
            """Same as `forward`."""
            ...


class TwoWay(Bijector, ABC):
    """A bijector whose directions are one piece of code: `directed` says it all."""

    @abstractmethod
    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        """``f(x)`` for sign 1, ``f^-1(x)`` for sign -1, and the log-determinant of that."""

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        return self.directed(x, 1)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        return self.directed(y, -1)


@final
class Identity(TwoWay):
    """The map that does nothing: ``y = x``, log-determinant zero."""

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        return x, _zeros(x)


@final
class Chain(TwoWay, Generic[B]):
    """Several bijectors one after the other: ``Chain([f, g])`` is ``g(f(x))``."""

    def __init__(self, bijectors: Iterable[B]) -> None:
        super().__init__()
        self.bijectors = module_list(bijectors)

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        total = _zeros(x)
        for bijector in self.bijectors if sign > 0 else reversed(self.bijectors):
            x, log_det = bijector.directed(x, sign)
            total = total + log_det
        return x, total


@final
class Inverse(TwoWay):
    """A bijector run backwards."""

    def __init__(self, bijector: Bijector) -> None:
        super().__init__()
        self.bijector = bijector

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        return self.bijector.directed(x, -sign)


def module_list(modules: Iterable[M]) -> Sequence[M]:
    """A `torch.nn.ModuleList` that keeps the type of its modules."""
    return cast(Sequence[M], nn.ModuleList(modules))


def _zeros(x: Configs) -> Values:
    """Real, whatever the configurations are."""
    return x.real.new_zeros(len(x))


def require_event(x: Configs, event_shape: torch.Size) -> None:
    """Raise InputError unless x is (batch, *event_shape)."""
    if x.shape[1:] != event_shape or x.ndim != len(event_shape) + 1:
        expected = ", ".join(["batch", *map(str, event_shape)])
        raise InputError("x", f"shape ({expected})", tuple(x.shape))
