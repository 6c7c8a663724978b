"""A bijector on some of the coordinates."""

from typing import final

from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


@final
class Part(Bijector):
    """``y[index] = f(x[index])``, all other coordinates unchanged; configurations (batch, n).

    ``index`` (k,) are distinct places, f is a bijector of (batch, k).
    """

    def __init__(self, bijector: Bijector, index: Tensor) -> None:
        super().__init__()
        if index.ndim != 1 or len(index.unique()) != len(index):
            raise InputError("index", "distinct places (k,)", index.tolist())
        self.bijector = bijector
        self.register_buffer("index", index)

    index: Tensor

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """f on the part."""
        moved, log_det = self.bijector.forward(x[:, self.index])
        return x.index_copy(1, self.index, moved), log_det

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """The inverse of f on the part."""
        moved, log_det = self.bijector.inverse(y[:, self.index])
        return y.index_copy(1, self.index, moved), log_det
