"""Energies, gradients and Hessian traces of any truncated pair potential, for a batch of crystals.

A pair potential is one plain function ``pair(r2, *constants)`` of the squared distances of eight
pairs: U in units of ``Truncation.energy``, and U'/r and U'' in units of ``Truncation.slope``. It
is compiled into the loops below; what a kernel does not use of it costs nothing.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.blocks import (
    aligned,
    candidates,
    clear,
    longest_list,
    pack,
    pair_vector,
    places,
    spread,
    stretch,
    unpack,
)
from helmflow.kernels.cache import entry
from helmflow.kernels.simd import INLINE, INNER, LANES, any_lane, item, select, splat
from helmflow.kernels.vectors import (
    ATOM,
    accumulate,
    dot,
    fetch,
    quadratic,
    relative,
    scale,
    subtract,
    trace,
)


class Truncation(NamedTuple):
    """Where a pair potential ends, what is subtracted from every pair in range, and its units.

    Multiplications are what limits the loops: factors that all pairs share are left to their end.
    ``offset`` is in units of ``energy``.
    """

    cutoff: float
    offset: float
    energy: float
    slope: float
    constants: tuple[float, ...]


class Block(NamedTuple):
    """Scratch of one block: displacements, gradients, and what `candidates` needs and finds."""

    x: np.ndarray
    g: np.ndarray
    lengths: np.ndarray
    near: np.ndarray
    far: np.ndarray
    ends: np.ndarray
    """Where in ``x`` the far atom of every pair is."""
    covariances: np.ndarray
    """Of every pair vector, nine numbers; for traces only."""


@njit(**INNER)
def _block(pairs, size, size_g, covariances):
    # Apart by more than a page: stores to one would stall loads from the other.
    both = aligned((size + size_g) * LANES + 256)
    return Block(
        both[: size * LANES],
        both[size * LANES + 256 :],
        np.empty(size // 3),
        np.zeros(size // 3, np.int64),
        np.empty(longest_list(pairs), np.int64),
        places(pairs),
        covariances,
    )


def _block_energy(pair: Callable) -> Any:
    """The loop ``(block, longest, pairs, cut)``: energy of a block, its gradient to its ``g``."""

    @njit(**INLINE)
    def evaluate(d, cut):
        r2 = dot(d, d)
        inside = r2 < cut.cutoff * cut.cutoff
        energy, slope, _ = pair(r2, *cut.constants)
        return select(inside, energy - cut.offset, 0.0), select(inside, slope, 0.0)

    @njit(**INNER)
    def block_energy(block, longest, pairs, cut):
        want_gradient = block.g.size > 0
        zero = splat(0.0)
        cutoff2 = cut.cutoff * cut.cutoff
        energy = zero
        for i in range(block.lengths.size):
            start = fetch(block.x, i * ATOM)
            total = (zero, zero, zero)
            first = pairs.offsets[i]
            sure, more = candidates(pairs, i, cut.cutoff, block, longest)
            for k in range(first, first + sure):
                there = item(block.ends, k)
                d = pair_vector(block.x, start, there, pairs, k)
                e, slope = evaluate(d, cut)
                energy += e
                if want_gradient:
                    f = scale(slope, d)
                    accumulate(block.g, there, f)
                    total = subtract(total, f)
            for m in range(more):
                k = item(block.far, m)
                there = item(block.ends, k)
                d = pair_vector(block.x, start, there, pairs, k)
                if any_lane(dot(d, d) < cutoff2):
                    e, slope = evaluate(d, cut)
                    energy += e
                    if want_gradient:
                        f = scale(slope, d)
                        accumulate(block.g, there, f)
                        total = subtract(total, f)
            if want_gradient:
                accumulate(block.g, i * ATOM, total)
        # Summed with the sign that needs no negation: along d, from the far atom to this one.
        stretch(block.g, -cut.slope)
        return cut.energy * energy

    return block_energy


def _block_trace(pair: Callable) -> Any:
    """The loop ``(block, longest, pairs, cut)``: trace of covariance times Hessian of a block."""

    @njit(**INNER)
    def block_trace(block, longest, pairs, cut):
        total = splat(0.0)
        for i in range(block.lengths.size):
            start = fetch(block.x, i * ATOM)
            reach = cut.cutoff + block.lengths[i] + longest
            for k in range(pairs.offsets[i], pairs.offsets[i + 1]):
                if item(pairs.distances, k) > reach:
                    break
                d = pair_vector(block.x, start, item(block.ends, k), pairs, k)
                r2 = dot(d, d)
                inside = r2 < cut.cutoff * cut.cutoff
                if not any_lane(inside):
                    continue
                # The Hessian is U'/r across the pair and U'' along it.
                _, across, along = pair(r2, *cut.constants)
                projected = quadratic(block.covariances, 9 * k, d) / r2
                part = (along - across) * projected + across * trace(block.covariances, 9 * k)
                total += select(inside, part, 0.0)
        return cut.slope * total

    return block_trace


@cache
def energies_of(pair: Callable[..., Any]) -> Callable[..., None]:
    """The kernel ``energies(u, pairs, cut, out)`` of a pair potential.

    Fills ``out``, an `Energies`, from rows ``u`` (B, 3n). ``pairs`` lists every pair once;
    ``cut`` is a `Truncation`.
    """
    block_energy = _block_energy(njit(**INLINE)(pair))

    def energies(u, pairs, cut, out):
        batch, size = u.shape
        block = _block(pairs, size, out.gradient.shape[1], np.empty(0))
        for first in range(0, batch, LANES):
            count = min(LANES, batch - first)
            squared, longest = pack(u, first, count, block.x, block.lengths)
            clear(block.g)
            spread(block_energy(block, longest, pairs, cut), first, count, out.energy)
            spread(squared, first, count, out.extent)
            if block.g.size > 0:
                unpack(block.g, first, count, out.gradient)

    return entry(energies, pair)


@cache
def traces_of(pair: Callable[..., Any]) -> Callable[..., None]:
    """The kernel ``traces(u, pairs, cut, covariance, out)`` of a pair potential.

    Fills ``out``, a `Traces`, with tr(C H) for C (3n, 3n); otherwise as in `energies_of`.
    """
    block_trace = _block_trace(njit(**INLINE)(pair))

    def traces(u, pairs, cut, covariance, out):
        batch, size = u.shape
        covariances = np.empty(9 * pairs.index.size)
        for i in range(size // 3):
            for k in range(pairs.offsets[i], pairs.offsets[i + 1]):
                relative(covariance, (i, pairs.index[k], pairs.index[k]), covariances, 9 * k)
        block = _block(pairs, size, 0, covariances)
        for first in range(0, batch, LANES):
            count = min(LANES, batch - first)
            squared, longest = pack(u, first, count, block.x, block.lengths)
            spread(block_trace(block, longest, pairs, cut), first, count, out.trace)
            spread(squared, first, count, out.extent)

    return entry(traces, pair)
