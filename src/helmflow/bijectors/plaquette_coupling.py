"""Gauge-equivariant couplings of U(1) links on stripes of plaquettes."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.elementwise import Elementwise
from helmflow.errors import InputError
from helmflow.manifolds.links import plaquette_angles, require_lattice
from helmflow.manifolds.torus import TWO_PI, wrap
from helmflow.nets.circular_convolutions import CircularConvolutions
from helmflow.shapes import Configs, Values
from helmflow.streams import stream

PERIOD = 4
"""Lines from one active line to the next: active, two frozen, passive."""


@final
class PlaquetteCoupling(Bijector):
    """Links of direction ``mu`` on every fourth line changed, through their plaquettes.

    On active lines (``offset`` modulo 4, across mu) ``P' = f(P; net)`` and the link changes by
    ``+-(P' - P)``; the plaquette on its other side, passive, changes by the opposite amount. The
    net sees what does not change: cosines and sines of the plaquettes between, and of the 2 x 1
    loops around an active and its passive plaquette. Hence the coupling commutes with gauge
    transformations, and log|det| is the sum of ln f'. f is any map of the circle. Links are
    angles in [0, 2 pi), extents multiples of 4.
    Source: G. Kanwar et al., doi:10.1103/PhysRevLett.125.121601.
    """

    def __init__(
        self,
        mu: int,
        offset: int,
        elementwise: Elementwise,
        hidden: Sequence[int] = (16,),
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if mu not in (0, 1) or not 0 <= offset < PERIOD:
            raise InputError("mu, offset", "0 or 1, and 0 to 3", (mu, offset))
        self.mu, self.offset, self.elementwise = mu, offset, elementwise
        self.sign = 1.0 if mu == 0 else -1.0
        channels = [4, *hidden, elementwise.n_parameters]
        generator = generator or stream(0, "plaquette coupling")
        self.net = CircularConvolutions(channels, generator=generator)

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """The active links moved, and the sum of the log slopes."""
        angles, parameters, lines = self._seen(x)
        moved, log_slope = self.elementwise.forward(angles, parameters)
        return self._changed(x, moved - angles, lines), log_slope.flatten(1).sum(1)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """The active links moved back: the net sees the same."""
        angles, parameters, lines = self._seen(y)
        moved, log_slope = self.elementwise.inverse(angles, parameters)
        return self._changed(y, moved - angles, lines), log_slope.flatten(1).sum(1)

    def _seen(self, x: Configs) -> tuple[Tensor, Tensor, Tensor]:
        """Active plaquettes in [0, 2 pi), parameters of their maps, and the active lines."""
        require_lattice((x.shape[2], x.shape[3]), PERIOD)
        angles = plaquette_angles(x)
        axis = 2 - self.mu
        lines = torch.arange(self.offset, angles.shape[axis], PERIOD)
        place = torch.zeros(angles.shape[axis], dtype=angles.dtype)
        frozen, active = place.clone(), place.clone()
        active[lines] = 1.0
        frozen[(lines + 1) % len(place)] = frozen[(lines + 2) % len(place)] = 1.0
        frozen, active = (m if axis == 2 else m[:, None] for m in (frozen, active))
        loops = angles + angles.roll(1, axis)
        inputs = [frozen * angles.cos(), frozen * angles.sin()]
        inputs += [active * loops.cos(), active * loops.sin()]
        parameters = self.net(torch.stack(inputs, 1)).movedim(1, -1)
        return (
            wrap(angles.index_select(axis, lines)),
            parameters.index_select(axis, lines),
            lines,
        )

    def _changed(self, x: Configs, change: Tensor, lines: Tensor) -> Configs:
        axis = 2 - self.mu
        links = x[:, self.mu]
        links = links.index_add(axis, lines, self.sign * change)
        pair = (links, x[:, 1]) if self.mu == 0 else (x[:, 0], links)
        return torch.stack(pair, 1).remainder(TWO_PI)


def plaquette_couplings(
    n_layers: int,
    elementwise: Elementwise,
    hidden: Sequence[int] = (16,),
    *,
    generator: torch.Generator | None = None,
) -> list[Bijector]:
    """Couplings for a `Chain`: both directions and the four offsets in turn."""
    generator = generator or stream(0, "plaquette couplings")
    return [
        PlaquetteCoupling(i % 2, (i // 2) % PERIOD, elementwise, hidden, generator=generator)
        for i in range(n_layers)
    ]
