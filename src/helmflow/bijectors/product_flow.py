"""Flows of angles, directions and real numbers together, in one row of coordinates."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import Bijector, TwoWay, require_event
from helmflow.bijectors.elementwise import Composed, Elementwise, ShiftScale
from helmflow.bijectors.sphere_flows import RecursiveSphere, RotationAutoregressive
from helmflow.bijectors.splines import RationalQuadraticSpline
from helmflow.bijectors.torus_flows import TorusAutoregressive
from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.nets.mlp import Conditioner
from helmflow.shapes import Configs, Values

REACH = 5.0
"""Of the splines on the line: beyond it a map is affine."""


@final
class LineAutoregressive(Bijector):
    """Real numbers in turn, each mapped given those before it and ``given`` (batch, n_given).

    ``y_k = f(x_k; net_k(y_1, ..., y_(k-1), given))`` with f a spline of [-5, 5] and an affine map.
    """

    def __init__(self, dim: int, conditioner: Conditioner, *, n_bins: int = 12) -> None:
        super().__init__()
        self.dim, self.conditioner = dim, conditioner
        spline = RationalQuadraticSpline(n_bins, -REACH, REACH)
        self.elementwise = Composed([spline, ShiftScale()])
        n_out = self.elementwise.n_parameters
        self.nets = nn.ModuleList(conditioner.network(k, n_out) for k in range(dim))

    def forward(self, x: Configs, given: Tensor | None = None) -> tuple[Configs, Values]:
        require_event(x, torch.Size([self.dim]))
        given = self.conditioner.require_given(given, x)
        done, total = x[:, :0], torch.zeros_like(x[:, 0])
        for k, net in enumerate(self.nets):
            y, log_slope = self.elementwise.forward(x[:, k], net(torch.cat((done, given), -1)))
            done, total = torch.cat((done, y[:, None]), -1), total + log_slope
        return done, total

    def inverse(self, y: Configs, given: Tensor | None = None) -> tuple[Configs, Values]:
        require_event(y, torch.Size([self.dim]))
        given = self.conditioner.require_given(given, y)
        parameters = [net(torch.cat((y[:, :k], given), -1)) for k, net in enumerate(self.nets)]
        x, log_slope = self.elementwise.inverse(y, torch.stack(parameters, 1))
        return x, log_slope.sum(1)


FACTOR_FLOWS: dict[str, Callable[..., Bijector]] = {
    "T": TorusAutoregressive,
    "S": RecursiveSphere,
    "R": lambda dim, _, conditioner: LineAutoregressive(dim, conditioner),
    "SO": RotationAutoregressive,
}
"""By the letter of a manifold: its trained flow, which may depend on given numbers."""


@final
class ProductAutoregressive(TwoWay):
    """The factors of a product T^a x S^b x R^c in turn, each mapped given those before it.

    ``y_k = f_k(x_k | y_j for j before k)`` in the given ``order`` of factors, by the flows of
    `FACTOR_FLOWS`. Nets see the features of a manifold (cosines and sines of angles, directions
    as unit vectors, matrices of rotations), so that densities are continuous across every seam.
    """

    def __init__(
        self,
        manifold: Manifold,
        circle: Elementwise,
        conditioner: Conditioner,
        *,
        order: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.manifold = manifold
        n = len(manifold.factors)
        self.order = tuple(range(n) if order is None else order)
        if sorted(self.order) != list(range(n)):
            raise InputError("order", f"a permutation of 0 to {n - 1}", self.order)
        maps: list[nn.Module] = []
        n_given = 0
        for place in self.order:
            factor = manifold.factors[place]
            if factor.letter not in FACTOR_FLOWS:
                raise InputError("manifold", f"factors {', '.join(FACTOR_FLOWS)}", repr(factor))
            networks = replace(conditioner, n_given=n_given)
            maps.append(FACTOR_FLOWS[factor.letter](factor.dim, circle, networks))
            n_given += factor.n_features
        self.maps = nn.ModuleList(maps)

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        require_event(x, torch.Size([self.manifold.n_coordinates]))
        parts = list(x.split(self.manifold.sizes, -1))
        moved, given, total = parts.copy(), x[:, :0], torch.zeros_like(x[:, 0])
        for place, bijector in zip(self.order, self.maps, strict=True):
            direction = getattr(bijector, "forward" if sign > 0 else "inverse")
            moved[place], log_det = direction(parts[place], given)
            known = moved[place] if sign > 0 else parts[place]
            given = torch.cat((given, self.manifold.factors[place].features(known)), -1)
            total = total + log_det
        return torch.cat(moved, -1), total
