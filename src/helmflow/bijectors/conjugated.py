"""Maps seen through other coordinates, or through some of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

from torch import Tensor

from helmflow.bijectors.base import Bijector, Chain, Inverse
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

View = tuple[Tensor, Callable[[Tensor], Configs]]
"""The coordinates z of a configuration, and the configuration as a function of new ones."""


class Conjugated(Bijector, ABC):
    """A bijector f of coordinates z(x): ``z(y) = f(z(x))``, log|det| that of f.

    To add one: `view`, whose change of coordinates has a constant volume, or leaves alone what z
    does not see. `conjugated` is for coordinates whose volume changes.
    """

    def __init__(self, bijector: Bijector) -> None:
        super().__init__()
        self.bijector = bijector

    @abstractmethod
    def view(self, x: Configs) -> View:
        """z and the way back."""

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        z, back = self.view(x)
        moved, log_det = self.bijector.forward(z)
        return back(moved), log_det

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        z, back = self.view(y)
        moved, log_det = self.bijector.inverse(z)
        return back(moved), log_det


@final
class Part(Conjugated):
    """``y[index] = f(x[index])``, all other coordinates unchanged; configurations (batch, n).

    ``index`` (k,) are distinct places, f is a bijector of (batch, k).
    """

    index: Tensor

    def __init__(self, bijector: Bijector, index: Tensor) -> None:
        super().__init__(bijector)
        if index.ndim != 1 or len(index.unique()) != len(index):
            raise InputError("index", "distinct places (k,)", index.tolist())
        self.register_buffer("index", index)

    def view(self, x: Configs) -> View:
        return x[:, self.index], lambda z: x.index_copy(1, self.index, z)


def conjugated(coordinates: Bijector, *maps: Bijector) -> Chain:
    """``c^-1 f c``: maps f, one after the other, of the coordinates c(x)."""
    return Chain([coordinates, *maps, Inverse(coordinates)])
