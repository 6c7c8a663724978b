"""Couplings in internal coordinates, conditioned on torsions."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.elementwise import Elementwise
from helmflow.errors import InputError
from helmflow.nets.mlp import Mlp
from helmflow.shapes import Configs, Values


@final
class GivenTorsions(Bijector):
    """``y_i = f(x_i; h_i(cos, sin of the given torsions))`` for the moved i, others unchanged.

    Configurations (batch, n) of internal coordinates; ``moved`` and ``given`` are distinct places.
    The network h starts at zero, where every elementwise map f is the identity. With ``centres``
    (one per moved coordinate) these are angles within pi of their centre, and f a map of the
    circle [0, 2 pi). With ``scale`` (one per moved coordinate, its usual size) f acts on x/scale.
    """

    def __init__(
        self,
        moved: Tensor,
        given: Tensor,
        elementwise: Elementwise,
        *,
        hidden: Sequence[int] = (32, 32),
        centres: Tensor | None = None,
        scale: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(torch.cat([moved, given]).unique()) != len(moved) + len(given):
            raise InputError("moved", "places that are not among the given", moved.tolist())
        self.elementwise = elementwise
        self.register_buffer("moved", moved)
        self.register_buffer("given", given)
        zeros = torch.zeros(len(moved), dtype=torch.float64)
        self.register_buffer("shift", zeros if centres is None else centres - math.pi)
        self.register_buffer("scale", zeros + 1.0 if scale is None else scale)
        n_out = len(moved) * elementwise.n_parameters
        self.network = Mlp(4 * len(given) + 1, hidden, n_out, generator=generator)

    moved: Tensor
    given: Tensor
    shift: Tensor
    scale: Tensor

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """Move the coordinates."""
        z, parameters = (x[:, self.moved] - self.shift) / self.scale, self._conditioned(x)
        moved, log_derivative = self.elementwise.forward(z, parameters)
        y = x.index_copy(1, self.moved, moved * self.scale + self.shift)
        return y, log_derivative.sum(1)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """Move them back."""
        z, parameters = (y[:, self.moved] - self.shift) / self.scale, self._conditioned(y)
        moved, log_derivative = self.elementwise.inverse(z, parameters)
        x = y.index_copy(1, self.moved, moved * self.scale + self.shift)
        return x, log_derivative.sum(1)

    def _conditioned(self, x: Configs) -> Tensor:
        angle = x[:, self.given]
        one = x.new_ones((len(x), 1))  # so that the network is there without any torsion
        features = [one, angle.cos(), angle.sin(), (2.0 * angle).cos(), (2.0 * angle).sin()]
        out = self.network(torch.cat(features, dim=1))
        return out.reshape(len(x), len(self.moved), self.elementwise.n_parameters)
