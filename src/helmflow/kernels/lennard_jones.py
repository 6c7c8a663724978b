"""Lennard-Jones energies, gradients and Hessian traces of a batch of displaced crystals."""

from typing import NamedTuple

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
from helmflow.kernels.covariance import quadratic, relative, trace
from helmflow.kernels.simd import (
    ENTRY,
    INLINE,
    INNER,
    LANES,
    any_lane,
    item,
    select,
    splat,
)
from helmflow.kernels.vectors import ATOM, accumulate, dot, fetch, scale, subtract

# Numba's cache watches this file only: it must change with every file that it compiles in.
SIMD_DIGEST = "045d303db94f"


class Parameters(NamedTuple):
    """Constants of the pair potential; ``shift`` is subtracted from every pair in range."""

    epsilon: float
    sigma: float
    cutoff: float
    shift: float


@njit(**INLINE)
def _pair(r2, inside, p):
    """Energy of a pair over 4 epsilon, and -U'(r)/r over 24 epsilon/sigma^2; zero outside.

    Multiplications are what limits the loop: the constants are left to its end.
    """
    s2 = select(inside, (p.sigma * p.sigma) / r2, 0.0)
    s6 = s2 * s2 * s2
    s12 = s6 * s6
    energy = s12 - s6
    push = s2 * (s12 + energy)
    return select(inside, energy - p.shift / (4.0 * p.epsilon), 0.0), push


@njit(**INNER)
def _energy(x, g, lengths, longest, pairs, ends, box, p, near, far, want_gradient):
    """Energy of one block; adds the gradient to ``g``."""
    zero = splat(0.0)
    cutoff2 = p.cutoff * p.cutoff
    energy = zero
    for i in range(lengths.size):
        start = fetch(x, i * ATOM)
        total = (zero, zero, zero)
        first = pairs.offsets[i]
        sure, found = candidates(pairs, i, p.cutoff, lengths, longest, near, far)
        for k in range(first, first + sure):
            there = item(ends, k)
            d = pair_vector(x, start, there, pairs.vectors, k, box)
            r2 = dot(d, d)
            e, push = _pair(r2, r2 < cutoff2, p)
            energy += e
            if want_gradient:
                f = scale(push, d)
                accumulate(g, there, f)
                total = subtract(total, f)
        for m in range(found):
            k = item(far, m)
            there = item(ends, k)
            d = pair_vector(x, start, there, pairs.vectors, k, box)
            r2 = dot(d, d)
            inside = r2 < cutoff2
            if any_lane(inside):
                e, push = _pair(r2, inside, p)
                energy += e
                if want_gradient:
                    f = scale(push, d)
                    accumulate(g, there, f)
                    total = subtract(total, f)
        if want_gradient:
            accumulate(g, i * ATOM, total)
    if want_gradient:
        stretch(g, 24.0 * p.epsilon / (p.sigma * p.sigma))
    return (4.0 * p.epsilon) * energy


@njit(**ENTRY)
def energies(u, pairs, box, p, energy, gradient, extent, want_gradient):
    """Energies (B,), gradients (B, 3n) and largest squared displacements (B,) of rows ``u``.

    ``pairs`` lists every pair once; ``box`` is None, or three lengths to round every pair vector
    to its nearest image.
    """
    batch, size = u.shape
    both = aligned(2 * size * LANES + 256)
    x = both[: size * LANES]
    g = both[size * LANES + 256 :]
    lengths = np.empty(size // 3)
    near = np.zeros(size // 3, np.int64)
    far = np.empty(longest_list(pairs), np.int64)
    ends = places(pairs)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        squared, longest = pack(u, first, count, x, lengths)
        clear(g)
        value = _energy(x, g, lengths, longest, pairs, ends, box, p, near, far, want_gradient)
        spread(value, first, count, energy)
        spread(squared, first, count, extent)
        if want_gradient:
            unpack(g, first, count, gradient)


@njit(**INNER)
def _trace(x, lengths, longest, pairs, ends, box, p, blocks):
    """Trace of covariance times Hessian of one block."""
    curvature = 4.0 * p.epsilon / (p.sigma * p.sigma)
    total = splat(0.0)
    for i in range(lengths.size):
        start = fetch(x, i * ATOM)
        reach = p.cutoff + lengths[i] + longest
        for k in range(pairs.offsets[i], pairs.offsets[i + 1]):
            if item(pairs.distances, k) > reach:
                break
            d = pair_vector(x, start, item(ends, k), pairs.vectors, k, box)
            r2 = dot(d, d)
            inside = r2 < p.cutoff * p.cutoff
            if not any_lane(inside):
                continue
            inverse = select(inside, 1.0 / r2, 0.0)
            s2 = (p.sigma * p.sigma) * inverse
            s6 = s2 * s2 * s2
            # U'/r and U'': the Hessian is U'/r across the pair and U'' along it.
            across = (curvature * s6 * s2) * (6.0 - 12.0 * s6)
            along = (curvature * s6 * s2) * (156.0 * s6 - 42.0)
            projected = inverse * quadratic(blocks, 9 * k, d)
            total += (along - across) * projected + across * trace(blocks, 9 * k)
    return total


@njit(**ENTRY)
def traces(u, pairs, box, p, covariance, out, extent):
    """tr(C H) (B,) and largest squared displacements (B,) of rows ``u``; C (3n, 3n)."""
    batch, size = u.shape
    x = aligned(size * LANES)
    lengths = np.empty(size // 3)
    ends = places(pairs)
    blocks = np.empty(9 * pairs.index.size)
    for i in range(size // 3):
        for k in range(pairs.offsets[i], pairs.offsets[i + 1]):
            relative(covariance, i, pairs.index[k], pairs.index[k], blocks, 9 * k)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        squared, longest = pack(u, first, count, x, lengths)
        value = _trace(x, lengths, longest, pairs, ends, box, p, blocks)
        spread(value, first, count, out)
        spread(squared, first, count, extent)
