"""Velocities of plaquette angles that a flow of U(1) links can be made of.

A feature is an odd function of plaquettes, ``F(n) = g(P(n)) sum_y h(P(y))``, the sum over the
nearest (or the diagonal) neighbours y of n, or left out. A kernel K spreads it over the lattice:

    dP(n)/dt = sum_y K(n - y) F(y),    sum_n K(n) = 0

with K = delta - 1/V, or the mean over the four nearest or diagonal neighbours less delta. Kernels
of sum zero leave the sum of all plaquettes alone, as every motion of links does; nothing refers
to the extents of the lattice except V, so that weights fitted at one size serve at any other.
"""

from typing import NamedTuple, final

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.fields.base import VelocityField
from helmflow.shapes import Configs, Values

HARMONICS = 4
N_KERNELS = 3


class _Wave(NamedTuple):
    """sin(kP) or cos(kP)."""

    odd: bool
    k: int


class _Product(NamedTuple):
    """g(P(n)) times the sum of h over neighbours: nearest, or diagonal."""

    g: _Wave
    h: _Wave
    diagonal: bool


def _pair(a: int, b: int, *, diagonal: bool = False) -> tuple[_Product, _Product]:
    """sin(aP) with cos(bP'), and cos(aP) with sin(bP')."""
    return (
        _Product(_Wave(True, a), _Wave(False, b), diagonal),
        _Product(_Wave(False, a), _Wave(True, b), diagonal),
    )


PRODUCTS = (*_pair(1, 1), *_pair(1, 1, diagonal=True), *_pair(1, 2), *_pair(2, 1))


@final
class PlaquetteField(VelocityField):
    """``size`` velocity fields of plaquettes (batch, L0, L1), with exact divergence.

    The divergence is that of the motion of the links behind the plaquettes, which is the trace
    of the motion of the plaquettes. Raises InputError for extents below 3.
    """

    n_features = HARMONICS + len(PRODUCTS)
    size = n_features * N_KERNELS

    def stein(self, x: Configs, gradient: Configs, t: float) -> Tensor:
        features, traces = self._features(x)
        spread = torch.stack(_kernels(gradient), 1).flatten(2)
        along = torch.einsum("fbn,bkn->fkb", features.flatten(2), spread)
        divergence = torch.einsum("fjb,jk->fkb", traces, _taps(x))
        return (divergence - along).flatten(0, 1)

    def velocity(self, x: Configs, t: float, weights: Tensor) -> tuple[Configs, Values]:
        features, traces = self._features(x)
        table = weights.view(self.n_features, N_KERNELS)
        mixed = torch.einsum("fbxy,fk->kbxy", features, table)
        parts = (_kernels(part)[k] for k, part in enumerate(mixed))
        velocity = sum(parts, torch.tensor(0.0))
        divergence = torch.einsum("fjb,jk,fk->b", traces, _taps(x), table)
        return velocity, divergence

    def _features(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Features (n_features, batch, L0, L1); derivatives (n_features, 3, batch).

        The derivatives are summed over the lattice: by the plaquette itself, by its nearest and
        by its diagonal neighbours.
        """
        if min(angles.shape[1:]) < 3:
            raise InputError("field.shape", "extents of at least 3", list(angles.shape[1:]))
        orders = range(1, HARMONICS + 1)
        sines, cosines = ([wave(k * angles) for k in orders] for wave in (torch.sin, torch.cos))
        zero = angles.new_zeros(len(angles))
        features = list(sines)
        traces = [[k * cosines[k - 1].sum((1, 2)), zero, zero] for k in orders]
        # sums over neighbours of the waves that occur in products
        near = [[_nearest(wave) for wave in part[:2]] for part in (sines, cosines)]
        across = [[_diagonal(wave) for wave in part[:1]] for part in (sines, cosines)]
        for g, h, diagonal in PRODUCTS:
            outer, outer_slope = _wave(g, sines, cosines)
            summed, summed_slope = _wave(h, *(across if diagonal else near))
            features.append(outer * summed)
            at_site = (outer_slope * summed).sum((1, 2))
            other = (outer * summed_slope).sum((1, 2))
            traces.append([at_site, zero, other] if diagonal else [at_site, other, zero])
        return torch.stack(features), torch.stack([torch.stack(row) for row in traces])


def _wave(wave: _Wave, sines: list[Tensor], cosines: list[Tensor]) -> tuple[Tensor, Tensor]:
    """sin(kP) or cos(kP), and its derivative."""
    k = wave.k
    if wave.odd:
        return sines[k - 1], k * cosines[k - 1]
    return cosines[k - 1], -k * sines[k - 1]


def _nearest(x: Tensor) -> Tensor:
    return x.roll(1, 1) + x.roll(-1, 1) + x.roll(1, 2) + x.roll(-1, 2)


def _diagonal(x: Tensor) -> Tensor:
    columns = x.roll(1, 1) + x.roll(-1, 1)
    return columns.roll(1, 2) + columns.roll(-1, 2)


def _kernels(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A field (batch, L0, L1) spread by each of the three kernels, which are symmetric."""
    return x - x.mean((1, 2), keepdim=True), 0.25 * _nearest(x) - x, 0.25 * _diagonal(x) - x


def _taps(angles: Tensor) -> Tensor:
    """K at the origin, at a nearest, at a diagonal neighbour (rows) for each kernel (columns)."""
    share = 1.0 / (angles.shape[1] * angles.shape[2])
    rows = [[1.0 - share, -1.0, -1.0], [-share, 0.25, 0.0], [-share, 0.0, 0.25]]
    return angles.new_tensor(rows)
