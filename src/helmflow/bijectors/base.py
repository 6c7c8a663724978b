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

    if TYPE_CHECKING:

        def __call__(self, x: Configs) -> tuple[Configs, Values]:
            """Same as `forward`."""
            ...


@final
class Identity(Bijector):
    """The map that does nothing: ``y = x``, log-determinant zero."""

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        return x, _zeros(x)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        return y, _zeros(y)


@final
class Chain(Bijector, Generic[B]):
    """Several bijectors one after the other: ``Chain([f, g])`` is ``g(f(x))``."""

    def __init__(self, bijectors: Iterable[B]) -> None:
        super().__init__()
        self.bijectors = module_list(bijectors)

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        total = _zeros(x)
        for bijector in self.bijectors:
            x, log_det = bijector.forward(x)
            total = total + log_det
        return x, total

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        total = _zeros(y)
        for bijector in reversed(self.bijectors):
            y, log_det = bijector.inverse(y)
            total = total + log_det
        return y, total


@final
class Inverse(Bijector):
    """A bijector run backwards."""

    def __init__(self, bijector: Bijector) -> None:
        super().__init__()
        self.bijector = bijector

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        return self.bijector.inverse(x)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        return self.bijector.forward(y)


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
