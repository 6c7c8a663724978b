"""Nearly exact samples of two-dimensional U(1) gauge theory, from coarse to fine.

On a torus of V plaquettes the fluxes are a random walk on the circle that returns: a rectangle of
n plaquettes with flux s falls into halves with fluxes s/2 + u and s/2 - u,

    p(u | s) ~ w_m(s/2 + u) w_m(s/2 - u),   w_m(x) = sum_j I_j(beta)^m cos(j x),   m = n/2,

from the whole torus (s = 0) down to single plaquettes; for m = 1 a von Mises density. Two
holonomies and a gauge transformation, all uniform, make links of the fluxes. This uses the exact
solution of the theory: it is a reference and a base, not something learned.
"""

import math
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ive
from torch import Generator, Tensor

from helmflow.densities.base import Density, require_count
from helmflow.densities.von_mises import NEARLY_UNIFORM, draw_von_mises
from helmflow.energies.gauge import require_coupling
from helmflow.errors import InputError
from helmflow.manifolds.links import (
    TWO_PI,
    plaquette_angles,
    require_lattice,
    require_links,
    wrapped,
)
from helmflow.shapes import Configs, Values

FLUXES, CELLS = 256, 512
"""Intervals of |s| in [0, pi], and cells of u in [-pi, pi]."""

MODES = 60
LARGEST_COUPLING = 100.0
"""Up to here ESS is 0.9997 on 16 x 16 sites; the cells are too wide for narrower densities."""


@final
class LoopSplitting(Density):
    """The density exp(beta sum cos P)/Z of U(1) links (batch, 2, L0, L1), nearly.

    Conditional densities are tabulated, linear in u within a cell and mixed linearly between
    values of |s|; ``log_prob`` is that of what is sampled, with respect to Haar measure. Raises
    InputError unless extents are powers of two, at least 4, and for ``beta`` above 100.
    """

    def __init__(self, shape: tuple[int, int], *, beta: float) -> None:
        super().__init__()
        self.shape = require_lattice(shape)
        if any(extent & (extent - 1) for extent in shape):
            raise InputError("field.shape", "extents that are powers of two", list(shape))
        self.beta = require_coupling("beta", beta)
        if beta > LARGEST_COUPLING:
            limit = f"at most {LARGEST_COUPLING:g} for loop splitting"
            raise InputError("potential.beta", limit, beta)
        self.axes = _halvings(self.shape)
        m = math.prod(shape)
        for level in range(len(self.axes) - 1):
            m //= 2
            for name, table in zip(("density", "cumulative"), _tables(beta, m), strict=True):
                self.register_buffer(f"{name}_{level}", table)

    def log_prob(self, x: Configs) -> Values:
        require_links(x, self.shape)
        fluxes = plaquette_angles(x)
        total = x.new_zeros(len(x))
        for level in reversed(range(len(self.axes))):
            axis = self.axes[level]
            halves = fluxes.unflatten(axis, (-1, 2)).unbind(axis + 1)
            fluxes = halves[0] + halves[1]
            s = wrapped(fluxes)
            u = wrapped(halves[0] - 0.5 * s)
            total = total + self._log_conditional(level, s, u).flatten(1).sum(1)
        return total

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Configs, Values]:
        require_count(n)
        s = torch.zeros(n, 1, 1, dtype=torch.float64)
        total = s.new_zeros(n)
        for level, axis in enumerate(self.axes):
            u = self._draw(level, s, generator)
            total = total + self._log_conditional(level, s, u).flatten(1).sum(1)
            s = wrapped(torch.stack((0.5 * s + u, 0.5 * s - u), axis + 1)).flatten(axis, axis + 1)
        return _links(s, generator), total

    def _draw(self, level: int, s: Tensor, generator: Generator) -> Tensor:
        if level == len(self.axes) - 1:
            return draw_von_mises(self._concentration(s), generator)
        density, cumulative = self._level(level)
        low, share = _place(s)
        v, w = torch.rand(2, *s.shape, generator=generator, dtype=torch.float64)
        row = low + (v < share)
        target = w * cumulative[row, -1]
        cell = _search(cumulative, row, target)
        left, right = density[row, cell], density[row, cell + 1]
        width = TWO_PI / CELLS
        # the area under a straight line: a quadratic equation, in the form without cancellation
        area = (target - cumulative[row, cell]) / width
        root = (left.square() + 2.0 * (right - left) * area).clamp_min(0.0).sqrt()
        inside = (2.0 * area / (left + root).clamp_min(1e-300)).clamp(0.0, 1.0)
        return wrapped(width * (cell + inside) - math.pi)

    def _log_conditional(self, level: int, s: Tensor, u: Tensor) -> Tensor:
        """ln of 2 pi p(u | s)."""
        if level == len(self.axes) - 1:
            kappa = self._concentration(s)
            return kappa * (u.cos() - 1.0) - torch.special.i0e(kappa).log()
        density, _ = self._level(level)
        low, share = _place(s)
        position = (u + math.pi) * (CELLS / TWO_PI)
        cell = position.floor().long().clamp(0, CELLS - 1)
        inside = position - cell
        values = [
            torch.lerp(density[row, cell], density[row, cell + 1], inside)
            for row in (low, low + 1)
        ]
        return (TWO_PI * torch.lerp(values[0], values[1], share)).log()

    def _concentration(self, s: Tensor) -> Tensor:
        return (2.0 * self.beta * torch.cos(0.5 * s)).clamp_min(NEARLY_UNIFORM)

    def _level(self, level: int) -> tuple[Tensor, Tensor]:
        return getattr(self, f"density_{level}"), getattr(self, f"cumulative_{level}")


def _halvings(shape: tuple[int, int]) -> list[int]:
    """Which axis (1 or 2, after the batch) is halved at each level, the longer one first."""
    extents, axes = list(shape), []
    while max(extents) > 1:
        longer = 0 if extents[0] >= extents[1] else 1
        extents[longer] //= 2
        axes.append(longer + 1)
    return axes


def _place(s: Tensor) -> tuple[Tensor, Tensor]:
    """The interval of |s| and how far into it."""
    position = s.abs() * (FLUXES / math.pi)
    low = position.floor().long().clamp(0, FLUXES - 1)
    return low, (position - low).clamp(0.0, 1.0)


def _search(cumulative: Tensor, row: Tensor, target: Tensor) -> Tensor:
    """The cell in which each row reaches its target, by bisection: CELLS is a power of two."""
    cell = torch.zeros_like(row)
    stride = CELLS // 2
    while stride:
        cell = torch.where(cumulative[row, cell + stride] <= target, cell + stride, cell)
        stride //= 2
    return cell


def _tables(beta: float, m: int) -> tuple[Tensor, Tensor]:
    """p(u | s) at the corners of the cells, for every s, and its integral up to each corner."""
    s = np.linspace(0.0, math.pi, FLUXES + 1)[:, None]
    u = np.linspace(-math.pi, math.pi, CELLS + 1)
    density = _walk(beta, m, 0.5 * s + u) * _walk(beta, m, 0.5 * s - u)
    width = TWO_PI / CELLS
    density /= width * density[:, 1:].sum(1, keepdims=True)
    cells = 0.5 * width * (density[:, 1:] + density[:, :-1])
    cumulative = np.concatenate((np.zeros_like(s), cells.cumsum(1)), 1)
    return torch.from_numpy(density), torch.from_numpy(cumulative)


def _walk(beta: float, m: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """w_m(x)/I_0^m: the density of the sum of m plaquettes, up to a factor."""
    powers = (ive(np.arange(MODES), beta) / ive(0, beta)) ** m
    total = np.ones_like(x)
    for j in np.flatnonzero(powers > 1e-18)[1:]:
        total += 2.0 * powers[j] * np.cos(j * x)
    return np.maximum(total, 1e-14)


def _links(fluxes: Tensor, generator: Generator) -> Configs:
    """Links with these plaquettes: an axial gauge, two holonomies, a gauge transformation."""
    n, extent, _ = fluxes.shape
    x = fluxes.new_zeros(n, 2, *fluxes.shape[1:])
    x[:, 1, 1:] = fluxes[:, :-1].cumsum(1)
    seam = -(x[:, 1, -1] + fluxes[:, -1])
    x[:, 0, extent - 1, 1:] = seam[:, :-1].cumsum(1)
    turns = TWO_PI * torch.rand(2, n, 1, generator=generator, dtype=torch.float64)
    x[:, 0, -1] += turns[0]
    x[:, 1, :, -1] += turns[1]
    alpha = TWO_PI * torch.rand(*fluxes.shape, generator=generator, dtype=torch.float64)
    change = torch.stack([alpha - alpha.roll(-1, axis) for axis in (1, 2)], 1)
    return (x + change).remainder(TWO_PI)
