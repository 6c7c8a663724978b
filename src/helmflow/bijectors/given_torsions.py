"""Couplings in internal coordinates, conditioned on torsions."""

import math
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.elementwise import Elementwise
from helmflow.bijectors.splines import CircularSpline
from helmflow.errors import InputError
from helmflow.nets.features import circular_features
from helmflow.nets.mlp import Mlp
from helmflow.shapes import Configs, Values

ORDERS = 3
"""Highest multiple of a torsion that networks see: methyl groups repeat three times a turn."""


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
        n_in = 2 * ORDERS * len(given) + 1
        self.network = Mlp(n_in, hidden, n_out, generator=generator)

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
        one = x.new_ones((len(x), 1))  # so that the network is there without any torsion
        features = torch.cat([one, torsion_features(x[:, self.given], ORDERS)], dim=1)
        out = self.network(features)
        return out.reshape(len(x), len(self.moved), self.elementwise.n_parameters)


@final
class TurnedTorsions(Bijector):
    """Angles at some places turned by circular splines of fixed parameters, others unchanged.

    Configurations (batch, n); ``centres`` (k,): the k angles are within pi of them. ``parameters``
    is (k, 3 n_bins), see `CircularSpline`; the points opposite to the centres stay.
    """

    def __init__(
        self, moved: Tensor, centres: Tensor, spline: CircularSpline, parameters: Tensor
    ) -> None:
        super().__init__()
        if parameters.shape != (len(moved), spline.n_parameters):
            expected = f"shape ({len(moved)}, {spline.n_parameters})"
            raise InputError("parameters", expected, tuple(parameters.shape))
        self.spline = spline
        self.register_buffer("moved", moved)
        self.register_buffer("shift", centres - math.pi)
        self.register_buffer("shape", parameters)

    moved: Tensor
    shift: Tensor
    shape: Tensor

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """Turn the angles."""
        return self._turn(x, self.spline.forward)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """Turn them back."""
        return self._turn(y, self.spline.inverse)

    def _turn(
        self, x: Configs, f: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Configs, Values]:
        angles = x[:, self.moved] - self.shift
        turned, log_derivative = f(angles, self.shape.expand(len(x), -1, -1))
        return x.index_copy(1, self.moved, turned + self.shift), log_derivative.sum(1)


@final
class ShiftedByTorsions(Bijector):
    """``y_moved = x_moved + features(x_given) @ weights``, others unchanged; log-determinant zero.

    Configurations (batch, n) of internal coordinates; ``weights`` (features, moved) belong to the
    features of `torsion_features`.
    """

    def __init__(self, moved: Tensor, given: Tensor, weights: Tensor) -> None:
        super().__init__()
        per_torsion = 2 * len(given)
        if weights.shape[1] != len(moved) or (len(weights) and len(weights) % per_torsion):
            expected = f"shape (a multiple of {per_torsion}, {len(moved)})"
            raise InputError("weights", expected, tuple(weights.shape))
        self.n_orders = len(weights) // max(per_torsion, 1)
        self.register_buffer("moved", moved)
        self.register_buffer("given", given)
        self.register_buffer("weights", weights)

    moved: Tensor
    given: Tensor
    weights: Tensor

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """Shift the coordinates."""
        return x.index_add(1, self.moved, self._shift(x)), x.new_zeros(len(x))

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """Shift them back."""
        return y.index_add(1, self.moved, -self._shift(y)), y.new_zeros(len(y))

    def _shift(self, x: Configs) -> Tensor:
        return torsion_features(x[:, self.given], self.n_orders) @ self.weights


def torsion_features(angles: Tensor, n_orders: int) -> Tensor:
    """cos and sin of the first multiples of angles (batch, k): (batch, 2 k n_orders)."""
    return circular_features(angles / (2.0 * math.pi), n_orders)
