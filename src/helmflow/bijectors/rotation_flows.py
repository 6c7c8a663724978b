"""A flow of rotations of space: the same at both quaternions of each."""

from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, require_event
from helmflow.bijectors.elementwise import Elementwise
from helmflow.bijectors.splines import RationalQuadraticSpline
from helmflow.errors import InputError
from helmflow.manifolds.sphere import normalised
from helmflow.manifolds.torus import wrap
from helmflow.nets.mlp import Conditioner
from helmflow.shapes import Configs, Values


@final
class RotationAutoregressive(Bijector):
    """SO(3) as a height and two angles, Euler's but for the choice of axes, mapped in turn.

    A quaternion (r e^(i s), sqrt(1 - r^2) e^(i t)) has the height ``u = 2 r^2 - 1`` and the angles
    ``a = 2 s`` and ``b = t - s``, which -q shares; Haar measure is ``du da db/8``. The height is
    mapped by a spline of [-1, 1], the angles by maps of the circle whose parameters fade like
    ``sqrt(1 - u^2)`` where one of them has no meaning: put `SphereRotation` between such layers.

        log det = log g' + log f_a' + log f_b'

    All nets also see the numbers ``given`` (batch, n_given of the conditioner) to both directions.
    """

    def __init__(
        self,
        dim: int,
        circle: Elementwise,
        conditioner: Conditioner,
        *,
        n_bins: int = 16,
    ) -> None:
        super().__init__()
        if dim != 3:
            raise InputError("dim", "3, that of SO(3)", dim)
        self.circle, self.conditioner = circle, conditioner
        self.spline = RationalQuadraticSpline(n_bins, -1.0, 1.0, linear_tails=False)
        self.height = conditioner.network(0, self.spline.n_parameters)
        self.first = conditioner.network(1, circle.n_parameters)
        self.second = conditioner.network(3, circle.n_parameters)

    def forward(self, x: Configs, given: Tensor | None = None) -> tuple[Configs, Values]:
        given = self.conditioner.require_given(given, x)
        u, a, b = _to_angles(x)
        u, log_height = self.spline.forward(u, self.height(given))
        a, log_first = self.circle.forward(a, self._of_first(u, given))
        b, log_second = self.circle.forward(b, self._of_second(u, a, given))
        return _from_angles(u, a, b), log_height + log_first + log_second

    def inverse(self, y: Configs, given: Tensor | None = None) -> tuple[Configs, Values]:
        given = self.conditioner.require_given(given, y)
        u, a, b = _to_angles(y)
        b, log_second = self.circle.inverse(b, self._of_second(u, a, given))
        a, log_first = self.circle.inverse(a, self._of_first(u, given))
        u, log_height = self.spline.inverse(u, self.height(given))
        return _from_angles(u, a, b), log_height + log_first + log_second

    def _of_first(self, u: Tensor, given: Tensor) -> Tensor:
        return _fade(u) * self.first(torch.cat((u[:, None], given), -1))

    def _of_second(self, u: Tensor, a: Tensor, given: Tensor) -> Tensor:
        seen = torch.stack((u, a.cos(), a.sin()), -1)
        return _fade(u) * self.second(torch.cat((seen, given), -1))


def _fade(u: Tensor) -> Tensor:
    """``sqrt(1 - u^2)`` (batch, 1), with a derivative at the ends."""
    return ((1.0 - u) * (1.0 + u)).clamp_min(1e-30).sqrt().unsqueeze(-1)


def _to_angles(x: Configs) -> tuple[Tensor, Tensor, Tensor]:
    """Height in [-1, 1] and two angles in [0, 2 pi), each (batch,)."""
    require_event(x, torch.Size([4]))
    square = x.square()
    first, second = square[:, :2].sum(-1), square[:, 2:].sum(-1)
    # atan2 has no derivative at its origin
    s = torch.atan2(x[:, 1], torch.where(first == 0.0, 1.0, x[:, 0]))
    t = torch.atan2(x[:, 3], torch.where(second == 0.0, 1.0, x[:, 2]))
    return (first - second) / (first + second), wrap(2.0 * s), wrap(t - s)


def _from_angles(u: Tensor, a: Tensor, b: Tensor) -> Configs:
    radii = (0.5 * torch.stack((1.0 + u, 1.0 - u), -1)).clamp_min(1e-300).sqrt()
    angles = torch.stack((0.5 * a, b + 0.5 * a), -1)
    pairs = torch.stack((angles.cos(), angles.sin()), -1)
    return normalised((radii.unsqueeze(-1) * pairs).flatten(-2))
