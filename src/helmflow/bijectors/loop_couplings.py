"""Gauge-equivariant couplings of SU(N) links, from large loops to small ones.

A rectangle of plaquettes with boundary holonomy S is cut in two; the half at its corner has the
holonomy S_1, based at the same corner. One link of the cut is changed so that

    S_1 S^(-a)  ->  h(S_1 S^(-a)),    h(X W X^-1) = X h(W) X^-1

with spectral maps h, for one or several powers a, that are given class functions of S. The other
links on the cut stay: they are gauge degrees of freedom. Rectangles of one level move together,
and the next level cuts the halves, down to single plaquettes. Every other link keeps its Haar
distribution. In two dimensions the loops of a Wilson theory are independent given
their parents, so few layers suffice; the maps themselves are learned.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import Chain, TwoWay, module_list
from helmflow.bijectors.coupling import Coupling, Split
from helmflow.bijectors.spectral import SpectralMap
from helmflow.errors import InputError
from helmflow.manifolds.links import require_lattice
from helmflow.manifolds.special_unitary import (
    eigenangles,
    projected,
    require_colours,
    spectral_function,
    trace,
)
from helmflow.shapes import Configs, Values
from helmflow.streams import stream

POWERS = {2: (0.5,), 3: (0.5, 0.0, 1.0)}
"""By N: powers of S relative to which S_1 is mapped in turn; SU(3) needs more than one frame."""


class Cut(NamedTuple):
    """All rectangles of extents ``size`` halved along ``axis``."""

    axis: int
    size: tuple[int, int]


@final
class LoopCoupling(Coupling):
    """One link of every cut moved, so that the halves of rectangles get other holonomies."""

    f: "_RelativeMaps"

    def __init__(self, cut: Cut, maps: Sequence[SpectralMap], powers: Sequence[float]) -> None:
        super().__init__()
        self.cut = cut
        self.f = _RelativeMaps(maps, powers)

    def split(self, x: Configs) -> Split:
        """S_1 of every rectangle; the whole S with its eigenangles, and features of its class."""
        flipped = self.cut.axis == 1
        size = self.cut.size
        if flipped:  # exchange the directions: plaquettes turn the other way round, nothing else
            x, size = x.flip(1).transpose(2, 3), (size[1], size[0])
        half = size[0] // 2
        below = _line(x, 0, (0, 0), half, size)
        cut_line = _line(x, 1, (half, 0), size[1], size)
        above = _line(x, 0, (0, size[1]), half, size)
        left = _line(x, 1, (0, 0), size[1], size)
        first = below @ cut_line @ (left @ above).mH
        rest = _line(x, 0, (half, 0), half, size) @ _line(x, 1, (size[0], 0), size[1], size)
        whole = below @ rest @ (left @ above @ _line(x, 0, (half, size[1]), half, size)).mH
        angles = eigenangles(whole)
        middle = spectral_function(whole, angles, 0.5 * angles)
        context = torch.cat([_class_features(m) for m in (middle, whole)], -1)

        def join(image: Tensor) -> Configs:
            turned = below.mH @ (image @ first.mH) @ below
            links = (slice(None), 1, *_grid(x, (half, 0), size))
            y = x.clone()
            y[links] = projected(turned @ x[links])
            return y.transpose(2, 3).flip(1) if flipped else y

        return Split(first, (whole, angles, context), join)


class _RelativeMaps(nn.Module):
    """``S_1 -> h(S_1 S^-a) S^a`` for the powers a in turn."""

    def __init__(self, maps: Sequence[SpectralMap], powers: Sequence[float]) -> None:
        super().__init__()
        self.maps, self.powers = module_list(maps), powers

    def forward(self, x: Tensor, parameters: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return self._directed(x, parameters, 1)

    def inverse(self, y: Tensor, parameters: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        return self._directed(y, parameters, -1)

    def _directed(
        self, x: Tensor, parameters: tuple[Tensor, ...], sign: int
    ) -> tuple[Tensor, Tensor]:
        whole, angles, context = parameters
        total = torch.zeros(len(x), dtype=torch.float64)
        for power, spectral in list(zip(self.powers, self.maps, strict=True))[::sign]:
            reference = spectral_function(whole, angles, power * angles)
            x, log_det = spectral(x @ reference.mH, context, sign)
            x = x @ reference
            total = total + log_det.flatten(1).sum(1)
        return x, total[:, None]


@final
class LoopCouplings(TwoWay):
    """SU(N) links (batch, 2, L0, L1, N, N) moved level by level; log|det| in Haar measure.

    The coarsest rectangles have the extents ``tile``, by default the largest powers of two that
    divide those of the lattice; tiles side by side are moved by the same maps. Raises InputError
    unless ``tile`` consists of powers of two, at least 4, dividing the extents, and N is 2 or 3.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        n_colours: int,
        *,
        n_bins: int = 8,
        width: int = 24,
        tile: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.n_colours = require_lattice(shape), require_colours(n_colours)
        # n & -n is the largest power of two that divides n
        self.tile = (shape[0] & -shape[0], shape[1] & -shape[1]) if tile is None else tile
        if any(extent < 4 or extent & (extent - 1) for extent in self.tile):
            raise InputError(
                "field.shape", "multiples of 4, tiled by powers of two", list(self.shape)
            )
        if any(extent % edge for extent, edge in zip(self.shape, self.tile, strict=True)):
            raise InputError("field.shape", f"multiples of {list(self.tile)}", list(shape))
        generator = generator or stream(0, "loop couplings")
        powers = POWERS[n_colours]

        def coupling(cut: Cut) -> LoopCoupling:
            sizes = {"n_bins": n_bins, "width": width, "generator": generator}
            return LoopCoupling(cut, [SpectralMap(n_colours, 4, **sizes) for _ in powers], powers)

        self.levels = Chain([coupling(cut) for cut in _cuts(self.tile)])

    @property
    def maps(self) -> list[SpectralMap]:
        """Those of all levels, coarse to fine."""
        return [h for level in self.levels.bijectors for h in level.f.maps]

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        return self.levels.directed(x, sign)


def _cuts(shape: tuple[int, int]) -> list[Cut]:
    """The longer extent is halved first."""
    size, cuts = list(shape), []
    while max(size) > 1:
        axis = 0 if size[0] >= size[1] else 1
        cuts.append(Cut(axis, (size[0], size[1])))
        size[axis] //= 2
    return cuts


def _line(
    x: Configs, mu: int, start: tuple[int, int], length: int, size: tuple[int, int]
) -> Tensor:
    """Products of ``length`` links along mu from ``start`` in every rectangle."""
    step = (1, 0) if mu == 0 else (0, 1)
    total = None
    for k in range(length):
        offset = (start[0] + k * step[0], start[1] + k * step[1])
        link = x[(slice(None), mu, *_grid(x, offset, size))]
        total = link if total is None else total @ link
    if total is None:
        raise InputError("length", "at least one link", length)
    return total


def _grid(x: Configs, offset: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Sites at ``offset`` from the corner of every rectangle, periodic."""
    rows, columns = (
        (torch.arange(0, extent, h) + o) % extent
        for extent, h, o in zip(x.shape[2:4], size, offset, strict=True)
    )
    return rows[:, None], columns[None, :]


def _class_features(m: Tensor) -> Tensor:
    """Re and Im of tr M/N, the latter times sqrt(N): (..., 2)."""
    t = trace(m) / m.shape[-1]
    return torch.stack((t.real, math.sqrt(m.shape[-1]) * t.imag), -1)
