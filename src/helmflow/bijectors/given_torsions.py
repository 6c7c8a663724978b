"""Couplings in internal coordinates, conditioned on torsions."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.coupling import ConditionedMap, Coupling, Split
from helmflow.bijectors.elementwise import Elementwise, ShiftScale
from helmflow.bijectors.splines import CircularSpline
from helmflow.errors import InputError
from helmflow.nets.mlp import Mlp, circular_features
from helmflow.shapes import Configs

ORDERS = 3
"""Highest multiple of a torsion that networks see: methyl groups repeat three times a turn."""


@dataclass(frozen=True)
class Places:
    """Coordinates at ``index`` (k,) of rows (batch, n), seen as ``z = (x - shift)/scale``."""

    index: Tensor
    shift: Tensor | float = 0.0
    scale: Tensor | float = 1.0

    @classmethod
    def around(cls, index: Tensor, centres: Tensor) -> "Places":
        """Angles within pi of ``centres`` (k,), seen as angles in [0, 2 pi)."""
        return cls(index, centres - math.pi)


class _AtPlaces(Coupling):
    """Moves the coordinates at some places of rows (batch, n)."""

    index: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, moved: Places, f: ConditionedMap) -> None:
        super().__init__()
        self.f = f
        self.register_buffer("index", moved.index)
        for name in ("shift", "scale"):
            value = torch.as_tensor(getattr(moved, name), dtype=torch.float64)
            self.register_buffer(name, value)

    @abstractmethod
    def parameters_of(self, x: Configs) -> Tensor:
        """Parameters of the maps (batch, k, ...)."""

    def split(self, x: Configs) -> Split:

        def join(z: Tensor) -> Configs:
            return x.index_copy(1, self.index, z * self.scale + self.shift)

        z = (x[:, self.index] - self.shift) / self.scale
        return Split(z, self.parameters_of(x), join)


@final
class GivenTorsions(_AtPlaces):
    """``y_i = f(x_i; h_i(cos, sin of the given torsions))`` for the moved i, others unchanged.

    Configurations (batch, n) of internal coordinates; ``moved`` and ``given`` are distinct places.
    The network h starts at zero, where every elementwise map f is the identity.
    """

    given: Tensor

    def __init__(
        self,
        moved: Places,
        given: Tensor,
        elementwise: Elementwise,
        *,
        hidden: Sequence[int] = (32, 32),
        generator: torch.Generator | None = None,
    ) -> None:
        n_moved = len(moved.index)
        if len(torch.cat([moved.index, given]).unique()) != n_moved + len(given):
            raise InputError("moved", "places that are not among the given", moved.index.tolist())
        super().__init__(moved, elementwise)
        self.shape = (n_moved, elementwise.n_parameters)
        self.register_buffer("given", given)
        n_in = 2 * ORDERS * len(given) + 1
        self.network = Mlp((n_in, *hidden, math.prod(self.shape)), generator=generator)

    def parameters_of(self, x: Configs) -> Tensor:
        one = x.new_ones((len(x), 1))  # so that the network is there without any torsion
        features = torch.cat([one, torsion_features(x[:, self.given], ORDERS)], dim=1)
        return self.network(features).unflatten(1, self.shape)


@final
class TurnedTorsions(_AtPlaces):
    """Angles at some places turned by circular splines of fixed parameters, others unchanged.

    ``moved`` are k angles seen in [0, 2 pi) (`Places.around`); ``parameters`` is (k, 3 n_bins),
    see `CircularSpline`; the points opposite to the centres stay.
    """

    fixed: Tensor

    def __init__(self, moved: Places, spline: CircularSpline, parameters: Tensor) -> None:
        expected = (len(moved.index), spline.n_parameters)
        if parameters.shape != expected:
            raise InputError("parameters", f"shape {expected}", tuple(parameters.shape))
        super().__init__(moved, spline)
        self.register_buffer("fixed", parameters)

    def parameters_of(self, x: Configs) -> Tensor:
        return self.fixed.expand(len(x), -1, -1)


@final
class ShiftedByTorsions(_AtPlaces):
    """``y_moved = x_moved + features(x_given) @ weights``, others unchanged; log-determinant zero.

    Configurations (batch, n) of internal coordinates; ``weights`` (features, moved) belong to the
    features of `torsion_features`.
    """

    given: Tensor
    weights: Tensor

    def __init__(self, moved: Tensor, given: Tensor, weights: Tensor) -> None:
        per_torsion = 2 * len(given)
        if weights.shape[1] != len(moved) or (len(weights) and len(weights) % per_torsion):
            expected = f"shape (a multiple of {per_torsion}, {len(moved)})"
            raise InputError("weights", expected, tuple(weights.shape))
        super().__init__(Places(moved), ShiftScale())
        self.n_orders = len(weights) // max(per_torsion, 1)
        self.register_buffer("given", given)
        self.register_buffer("weights", weights)

    def parameters_of(self, x: Configs) -> Tensor:
        """Log scales zero, and the shifts."""
        shift = torsion_features(x[:, self.given], self.n_orders) @ self.weights
        return torch.stack((torch.zeros_like(shift), shift), -1)


def torsion_features(angles: Tensor, n_orders: int) -> Tensor:
    """cos and sin of the first multiples of angles (batch, k): (batch, 2 k n_orders)."""
    return circular_features(angles / (2.0 * math.pi), n_orders)
