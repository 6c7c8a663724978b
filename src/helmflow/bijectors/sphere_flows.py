"""Flows of directions and of rotations of space: cylinders, projective linear maps, turns."""

import math
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import Bijector, TwoWay, require_event
from helmflow.bijectors.elementwise import Elementwise
from helmflow.bijectors.splines import RationalQuadraticSpline
from helmflow.errors import InputError
from helmflow.manifolds.sphere import normalised
from helmflow.manifolds.torus import wrap
from helmflow.nets.mlp import Conditioner
from helmflow.shapes import Configs, Values
from helmflow.streams import stream


class _Cylindrical(Bijector):
    """Heights in [-1, 1] are mapped by splines, then angles by maps of the circle."""

    def __init__(
        self, dim: int, circle: Elementwise, conditioner: Conditioner, n_bins: int
    ) -> None:
        super().__init__()
        self.dim, self.circle, self.conditioner = dim, circle, conditioner
        self.spline = RationalQuadraticSpline(n_bins, -1.0, 1.0, linear_tails=False)


@final
class RecursiveSphere(_Cylindrical):
    """S^D as cylinders within cylinders: heights r_D, ..., r_2 in turn, then an angle.

    ``x = (sqrt(1 - r^2) z, r)`` with z on S^(D-1). Every height is mapped by a spline of [-1, 1],
    given the heights before it; the angle by a map of the circle, given all of them:

        log det = sum_i log g_i' + log f' + sum_i (i/2 - 1) log[(1 - r_i'^2)/(1 - r_i^2)]

    where the last term is evaluated without cancellation at the poles. The parameters of the
    angle fade like sqrt(1 - r^2), as those of smooth functions do. Poles stay where they are:
    put `SphereRotation` between such layers. S^1 has no heights. All nets also see the numbers
    ``given`` (batch, n_given of the conditioner) to both directions.
    """

    def __init__(
        self, dim: int, circle: Elementwise, conditioner: Conditioner, *, n_bins: int = 16
    ) -> None:
        super().__init__(dim, circle, conditioner, n_bins)
        n_out = self.spline.n_parameters
        self.heights = nn.ModuleList(conditioner.network(k, n_out) for k in range(dim - 1))
        self.angle = conditioner.network(3 * (dim - 1), circle.n_parameters)

    def forward(self, x: Configs, given: Tensor | None = None) -> tuple[Configs, Values]:
        given = self.conditioner.require_given(given, x)
        heights, angle = _to_cylinders(x, self.dim)
        moved: list[Tensor] = []
        total = torch.zeros_like(angle)
        for k, r in enumerate(heights):
            parameters = self._of_height(k, moved, given)
            new, log_slope = self.spline.forward(r, parameters)
            total = total + log_slope
            power = 0.5 * (self.dim - k) - 1.0
            if power:
                total = total + power * self.spline.log_end_ratio(r, parameters)
            moved.append(new)
        new_angle, log_slope = self.circle.forward(angle, self._of_angle(moved, given))
        return _from_cylinders(moved, new_angle), total + log_slope

    def inverse(self, y: Configs, given: Tensor | None = None) -> tuple[Configs, Values]:
        given = self.conditioner.require_given(given, y)
        heights, angle = _to_cylinders(y, self.dim)
        moved: list[Tensor] = []
        old_angle, total = self.circle.inverse(angle, self._of_angle(heights, given))
        for k, r in enumerate(heights):
            parameters = self._of_height(k, heights[:k], given)
            old, log_slope = self.spline.inverse(r, parameters)
            total = total + log_slope
            power = 0.5 * (self.dim - k) - 1.0
            if power:
                total = total - power * self.spline.log_end_ratio(old, parameters)
            moved.append(old)
        return _from_cylinders(moved, old_angle), total

    def _of_height(self, k: int, heights: list[Tensor], given: Tensor) -> Tensor:
        return self.heights[k](torch.cat((*(r[:, None] for r in heights), given), -1))

    def _of_angle(self, heights: list[Tensor], given: Tensor) -> Tensor:
        r = torch.stack(heights, -1) if heights else given[:, :0]
        fade = (1.0 - r.square()).clamp_min(1e-30).prod(-1, keepdim=True).sqrt()
        seen = torch.cat((r, r.square(), 2.0 * r * r.square(), given), -1)
        return fade * self.angle(seen)


def _to_cylinders(x: Configs, dim: int) -> tuple[list[Tensor], Tensor]:
    """Heights r_D, ..., r_2 (batch,) and the angle in [0, 2 pi)."""
    require_event(x, torch.Size([dim + 1]))
    squares = x.square().cumsum(-1)
    heights = []
    for i in range(dim, 1, -1):
        # the length of the first i + 1 coordinates: no 1 - r^2 that cancels
        length = squares[:, i].clamp_min(torch.finfo(x.dtype).tiny).sqrt()
        heights.append((x[:, i] / length).clamp(-1.0, 1.0))
    # atan2 has no derivative at its origin, which is the pole set
    pole = squares[:, 1] == 0.0
    angle = torch.atan2(torch.where(pole, 0.0, x[:, 1]), torch.where(pole, 1.0, x[:, 0]))
    return heights, wrap(angle)


def _from_cylinders(heights: list[Tensor], angle: Tensor) -> Configs:
    radius = torch.ones_like(angle)
    columns = []
    for r in heights:
        columns.append(radius * r)
        radius = radius * ((1.0 - r) * (1.0 + r)).clamp_min(1e-300).sqrt()
    columns += [radius * angle.sin(), radius * angle.cos()]
    return normalised(torch.stack(columns[::-1], -1))


@final
class SphereRotation(TwoWay):
    """A learned rotation, the exponential of an antisymmetric matrix; no change of volume."""

    def __init__(self, dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        n = dim + 1
        generator = generator or stream(0, "rotation")
        # of order one whatever the dimension: the rotation starts far from the identity
        angles = 1.5 * torch.randn(n, n, generator=generator, dtype=torch.float64)
        self.angles = nn.Parameter(angles.triu(1) / math.sqrt(0.5 * n))

    def matrix(self) -> Tensor:
        """The rotation (n, n)."""
        upper = self.angles.triu(1)
        return torch.linalg.matrix_exp(upper - upper.T)

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        matrix = self.matrix()
        return x @ (matrix.T if sign > 0 else matrix), torch.zeros_like(x[:, 0])


@final
class ProjectiveLinear(Bijector):
    """``x -> L x/|L x|`` with det L = 1, ``log det = -(D + 1) log|L x|``: the same at x and -x.

    For orientations as unit quaternions (S^3), where x and -x are the same rotation: it takes
    antipodes to antipodes exactly. With a symmetric L of one special direction it is the double
    Moebius map of J. Koehler et al., arXiv:2301.11355. L is triangular, starting at one.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.free = nn.Parameter(torch.zeros(dim + 1, dim + 1, dtype=torch.float64))

    def matrix(self) -> Tensor:
        """L (D + 1, D + 1)."""
        diagonal = self.free.diagonal()
        return self.free.tril(-1) + torch.diag((diagonal - diagonal.mean()).exp())

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        y = x @ self.matrix().T
        length = y.norm(dim=-1, keepdim=True)
        return y / length, -(self.dim + 1) * length[:, 0].log()

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        x = torch.linalg.solve_triangular(self.matrix(), y.T, upper=False).T
        length = x.norm(dim=-1, keepdim=True)
        return x / length, -(self.dim + 1) * length[:, 0].log()


@final
class RotationAutoregressive(_Cylindrical):
    """SO(3) as a height and two angles, Euler's but for the choice of axes, mapped in turn.

    A quaternion (r e^(i s), sqrt(1 - r^2) e^(i t)) has the height ``u = 2 r^2 - 1`` and the angles
    ``a = 2 s`` and ``b = t - s``, which -q shares; Haar measure is ``du da db/8``. The height is
    mapped by a spline of [-1, 1], the angles by maps of the circle whose parameters fade like
    ``sqrt(1 - u^2)`` where one of them has no meaning: put `SphereRotation` between such layers.

        log det = log g' + log f_a' + log f_b'

    All nets also see the numbers ``given`` (batch, n_given of the conditioner) to both directions.
    """

    def __init__(
        self, dim: int, circle: Elementwise, conditioner: Conditioner, *, n_bins: int = 16
    ) -> None:
        if dim != 3:
            raise InputError("dim", "3, that of SO(3)", dim)
        super().__init__(dim, circle, conditioner, n_bins)
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
