"""Flows of many angles: one after the other, or some given the others."""

import math
from collections.abc import Sequence
from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import Bijector, TwoWay, require_event
from helmflow.bijectors.circle_maps import MoebiusMixture, Rotation
from helmflow.bijectors.coupling import Coupling, Split
from helmflow.bijectors.elementwise import Composed, Elementwise
from helmflow.errors import InputError
from helmflow.manifolds.torus import wrap
from helmflow.nets.mlp import Conditioner, side_by_side
from helmflow.shapes import Configs, Values


def circle_map(n_centres: int) -> Elementwise:
    """A Moebius mixture followed by a rotation: the map of the circle used by default."""
    return Composed([MoebiusMixture(n_centres), Rotation()])


@final
class TorusAutoregressive(Bijector):
    """Angles in turn, each mapped given those before it.

    ``y_k = f(x_k; net_k(cos y_j, sin y_j for j before k))`` in the given ``order``. With
    ``relative`` angles are measured from their predecessor and nets see differences only,
    ``y_k = y_(k-1) + f(x_k; net_k(cos, sin of y_j - y_(k-1)))``: a flow that turns with all its
    angles, for energies that do so too. An excluded band around ``y_k = y_(k-1)`` winds around
    the torus, and no continuous function of cosines and sines could follow it otherwise.

    ``seen`` says for each angle which of those before it its net is shown, all by default: what
    an energy of few neighbours needs (`elimination`). All nets also see the numbers ``given``
    (batch, n_given of the conditioner) to both directions. The inverse is one pass.
    """

    columns: Tensor

    def __init__(
        self,
        dim: int,
        elementwise: Elementwise,
        conditioner: Conditioner,
        *,
        order: Sequence[int] | None = None,
        relative: bool = False,
        seen: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.elementwise, self.relative = dim, elementwise, relative
        self.conditioner = conditioner
        self.order = tuple(range(dim) if order is None else order)
        if sorted(self.order) != list(range(dim)):
            raise InputError("order", f"a permutation of 0 to {dim - 1}", self.order)
        shown = _shown(self.order, seen, relative)
        self.sizes = tuple(len(places) for places in shown)
        most = max(self.sizes)
        padded = [[*places, *[0] * (most - len(places))] for places in shown]
        self.register_buffer("columns", torch.tensor(padded, dtype=torch.int64))
        n_out = elementwise.n_parameters
        self.nets = nn.ModuleList(conditioner.network(2 * n, n_out) for n in self.sizes)
        # an invariant flow leaves its first angle uniform
        if relative and not conditioner.n_given:
            self.nets[0].requires_grad_(requires_grad=False)

    def forward(self, x: Configs, given: Tensor | None = None) -> tuple[Configs, Values]:
        require_event(x, torch.Size([self.dim]))
        given = self.conditioner.require_given(given, x)
        done: list[Tensor] = [x.new_zeros(0)] * self.dim
        total = torch.zeros_like(x[:, 0])
        for k, (place, net) in enumerate(zip(self.order, self.nets, strict=True)):
            before = done[self.order[k - 1]] if self.relative and k else None
            others = [done[j] for j in self.columns[k, : self.sizes[k]].tolist()]
            seen = torch.stack(others, -1) if others else x[:, :0]
            if before is not None:
                seen = seen - before.unsqueeze(-1)
            y, log_slope = self.elementwise.forward(x[:, place], net(_features(seen, given)))
            done[place] = y if before is None else wrap(y + before)
            total = total + log_slope
        return torch.stack(done, -1), total

    def inverse(self, y: Configs, given: Tensor | None = None) -> tuple[Configs, Values]:
        require_event(y, torch.Size([self.dim]))
        given = self.conditioner.require_given(given, y)
        angles, seen = y[:, self.order], y[:, self.columns]
        if self.relative:
            before = torch.cat((torch.zeros_like(angles[:, :1]), angles[:, :-1]), 1)
            angles, seen = wrap(angles - before), seen - before.unsqueeze(-1)
        features = _features(seen, given.unsqueeze(1).expand(-1, self.dim, -1))
        x, log_slope = self.elementwise.inverse(angles, side_by_side(self.nets, features))
        return torch.empty_like(y).index_copy(1, torch.tensor(self.order), x), log_slope.sum(1)


def _shown(
    order: Sequence[int], seen: Sequence[Sequence[int]] | None, relative: bool
) -> list[list[int]]:
    """The angles that each net is shown, in the order of the nets."""
    if seen is not None and len(seen) != len(order):
        raise InputError("seen", f"{len(order)} lists of angles", len(seen))
    shown = []
    for k, place in enumerate(order):
        # the angle that others are measured from is zero
        before = order[: k - 1 if relative and k else k]
        wanted = before if seen is None else seen[place]
        if not set(wanted) <= set(order[:k]):
            raise InputError("seen", f"angles before {place} in the order", list(wanted))
        shown.append([j for j in before if j in wanted])
    return shown


def _features(seen: Tensor, given: Tensor) -> Tensor:
    """What a net is shown: ``given``, then cosine and sine of one angle after the other."""
    return torch.cat((given, torch.stack((seen.cos(), seen.sin()), -1).flatten(-2)), -1)


@final
class TorusCoupling(Coupling):
    """Some angles mapped given the others: ``y_a = f(x_a; net(cos x_b, sin x_b))``, ``y_b = x_b``.

    ``moved`` (D,) tells which; both directions cost one pass.
    """

    moving: Tensor
    resting: Tensor

    def __init__(
        self, moved: Sequence[bool], elementwise: Elementwise, conditioner: Conditioner
    ) -> None:
        super().__init__()
        if all(moved) or not any(moved):
            raise InputError("moved", "some angles moved and some not", list(moved))
        self.dim, self.f = len(moved), elementwise
        moving = torch.tensor(moved)
        self.register_buffer("moving", moving.nonzero()[:, 0])
        self.register_buffer("resting", (~moving).nonzero()[:, 0])
        self.shape = (len(self.moving), elementwise.n_parameters)
        self.net = conditioner.network(2 * len(self.resting), math.prod(self.shape))

    def split(self, x: Configs) -> Split:
        require_event(x, torch.Size([self.dim]))
        seen = x[:, self.resting]
        parameters = self.net(torch.cat((seen.cos(), seen.sin()), -1)).unflatten(-1, self.shape)
        return Split(x[:, self.moving], parameters, partial(x.index_copy, 1, self.moving))


@final
class TorusFrame(TwoWay):
    """Other angles of the same torus, ``y = M x`` with a matrix of whole numbers, det M = +-1.

    For a chain of joints the sums ``x_1 + ... + x_k`` are the absolute angles of its links. A
    change of coordinates: volume stays as it is.
    """

    matrix: Tensor
    back: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        whole = matrix.to(torch.float64)
        square = matrix.ndim == 2 and len(matrix) == matrix.shape[-1]
        if not square or not torch.equal(whole, whole.round()):
            raise InputError("matrix", "whole numbers (D, D)", matrix.tolist())
        if abs(abs(float(torch.linalg.det(whole))) - 1.0) > 1e-6:
            raise InputError("matrix", "a determinant of one or minus one", matrix.tolist())
        self.register_buffer("matrix", whole)
        self.register_buffer("back", torch.linalg.inv(whole).round())

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        require_event(x, torch.Size([len(self.matrix)]))
        matrix = self.matrix if sign > 0 else self.back
        return wrap(x @ matrix.T), torch.zeros_like(x[:, 0])
