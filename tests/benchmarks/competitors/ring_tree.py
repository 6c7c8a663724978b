"""A flow for rings of angles alone, refined level by level."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import Bijector, require_event
from helmflow.bijectors.elementwise import Elementwise
from helmflow.errors import InputError
from helmflow.manifolds.torus import wrap
from helmflow.nets.mlp import Constant, Mlp
from helmflow.shapes import Configs, Values
from helmflow.streams import stream


@final
class RingTree(Bijector):
    """A ring of 2^L angles, refined level by level from its first angle.

    Angle 0 is uniform. Then the angle half-way between two known neighbours l and r follows,
    ``y_m = y_l + f(x_m; net(cos, sin of y_r - y_l))``, with one net per level, until all are
    known. Exact in form for any energy of neighbours on a ring that turns with all angles:
    integrating out every second angle leaves such a ring.
    """

    def __init__(
        self,
        n: int,
        elementwise: Elementwise,
        hidden: Sequence[int],
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if n < 2 or n & (n - 1):
            raise InputError("n", "a power of two", n)
        self.n, self.elementwise = n, elementwise
        generator = generator or stream(0, "ring tree")
        n_out = elementwise.n_parameters
        self.nets = nn.ModuleList(
            Constant(n_out)
            if level == 0
            else Mlp((2, *hidden, n_out), activation=nn.Tanh, zero_last=False, generator=generator)
            for level in range(n.bit_length() - 1)
        )

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """All angles, level by level, and the sum of their log slopes."""
        require_event(x, torch.Size([self.n]))
        known, total = x[:, :1], torch.zeros_like(x[:, 0])
        for level, net in enumerate(self.nets):
            between = x[:, self._places(level)]
            y, log_slope = self.elementwise.forward(between, self._conditions(net, known))
            new = wrap(known + y)
            known = torch.stack((known, new), -1).flatten(1)
            total = total + log_slope.sum(1)
        return known, total

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """Every level at once from known neighbours."""
        require_event(y, torch.Size([self.n]))
        x, total = y, torch.zeros_like(y[:, 0])
        for level, net in enumerate(self.nets):
            known = y[:, :: self.n >> level]
            places = self._places(level)
            between, log_slope = self.elementwise.inverse(
                wrap(y[:, places] - known), self._conditions(net, known)
            )
            x = x.index_copy(1, torch.tensor(places), between)
            total = total + log_slope.sum(1)
        return x, total

    def _places(self, level: int) -> list[int]:
        spacing = self.n >> level
        return list(range(spacing // 2, self.n, spacing))

    def _conditions(self, net: nn.Module, known: Tensor) -> Tensor:
        difference = known.roll(-1, 1) - known
        return net(torch.stack((difference.cos(), difference.sin()), -1))
