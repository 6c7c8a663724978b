"""Stillinger-Weber energies and gradients of a batch of displaced crystals.

The three-body sum over pairs of neighbours of an atom is a polynomial in moments of its
neighbours. With ``g = exp(gamma sigma / (r - a sigma))`` and unit vectors ``n``,

    sum_{j<k} g_j g_k (n_j.n_k - c)^2 = (Q:Q - 2 c P.P + c^2 S^2 - (1 - c)^2 D) / 2,
    S = sum g,   P = sum g n,   Q = sum g n n,   D = sum g^2,

which costs one pass over the neighbours, and a second one for the gradient.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.blocks import JIT, aligned, clear, end, pack, pair_vector, spread, unpack
from helmflow.kernels.simd import LANES, any_lane, exp, item, load, select, splat, sqrt, store
from helmflow.kernels.vectors import (
    ATOM,
    INLINE,
    accumulate,
    add,
    add_outer,
    contract,
    dot,
    fetch,
    put,
    scale,
    subtract,
    times,
)

# Numba's cache watches this file only: the digest of what it inlines must change with it.
SIMD_DIGEST = "000000000000"

# Kept per neighbour between the two passes: n (3), 1/r, g, dg/dr, half the pair force.
_KEPT = 7 * LANES


class Parameters(NamedTuple):
    """Constants of the potential; ``range_`` (< a sigma) is where its tail is cut to zero."""

    epsilon: float
    sigma: float
    A: float
    B: float
    a: float
    lambda_: float
    gamma: float
    cos_theta0: float
    range_: float


@njit(**INLINE)
def _tails(y, inside, gamma):
    """Both exponentials of ``y``, zero outside."""
    if abs(gamma - 1.2) < 1e-15:
        # The published gamma: both are powers of one exponential.
        t = exp(0.2 * y)
        t4 = (t * t) * (t * t)
        return select(inside, t4 * t, 0.0), select(inside, t4 * (t * t), 0.0)
    return select(inside, exp(y), 0.0), select(inside, exp(gamma * y), 0.0)


@njit(**INLINE)
def radial(r2, inside, c):
    """(1/r, y, exp y, exp gamma y) with ``y = sigma / (r - a sigma)``, from r^2 inside."""
    r = sqrt(r2)
    gap = select(inside, r - c.a * c.sigma, -1.0)
    # One division for 1/r and 1/gap.
    inverse = 1.0 / (r * gap)
    y = c.sigma * (inverse * r)
    ex, gx = _tails(y, inside, c.gamma)
    return inverse * gap, y, ex, gx


@njit(**JIT)
def _turn(g, here, kept, ends, found, s, p, q, constants):
    """Second pass over the neighbours of one atom: the gradient of all it is the centre of."""
    c0 = constants.cos_theta0
    strength = constants.lambda_ * constants.epsilon
    same = (1.0 - c0) * (1.0 - c0)
    zero = splat(0.0)
    total = (zero, zero, zero)
    for m in range(found):
        at = m * _KEPT
        there = item(ends, m)
        n = fetch(kept, at)
        rinv = load(kept, at + 3 * LANES)
        gx = load(kept, at + 4 * LANES)
        dgx = load(kept, at + 5 * LANES)
        qn = times(q, n)
        nqn = dot(qn, n)
        pn = dot(p, n)
        # The centre's sum depends on r through g and on the direction through n.
        across = (2.0 * strength) * (gx * rinv)
        along = strength * ((nqn - (2.0 * c0) * pn + (c0 * c0) * s - same * gx) * dgx)
        along += load(kept, at + 6 * LANES) - across * (nqn - c0 * pn)
        f = add(scale(along, n), scale(across, subtract(qn, scale(c0, p))))
        accumulate(g, there, f)
        total = subtract(total, f)
    accumulate(g, here, total)


@njit(**JIT)
def _energy(x, g, lengths, longest, pairs, box, c, kept, ends, want_gradient):
    """Energy of one block; adds the gradient to ``g``."""
    zero = splat(0.0)
    c0 = c.cos_theta0
    strength = 0.5 * c.lambda_ * c.epsilon
    energy = zero
    for i in range(lengths.size):
        start = fetch(x, i * ATOM)
        s = zero
        d = zero
        p = (zero, zero, zero)
        q = (zero, zero, zero, zero, zero, zero)
        found = 0
        # No pair further apart than this in the reference can come within the range.
        reach = c.range_ + lengths[i] + longest
        for k in range(pairs.offsets[i], pairs.offsets[i + 1]):
            if item(pairs.distances, k) > reach:
                break
            there = end(pairs, k)
            vector = pair_vector(x, start, there, pairs, k, box)
            r2 = dot(vector, vector)
            inside = r2 < c.range_ * c.range_
            if not any_lane(inside):
                continue
            rinv, y, ex, gx = radial(r2, inside, c)
            sr = c.sigma * rinv
            sr4 = (sr * sr) * (sr * sr)
            pair = (c.A * c.epsilon) * (c.B * sr4 - 1.0)
            # Every pair is met from both ends: half of it here.
            energy += 0.5 * pair * ex
            n = scale(rinv, vector)
            w = scale(gx, n)
            s += gx
            d += gx * gx
            p = add(p, w)
            q = add_outer(q, w, n)
            if want_gradient:
                dy = (y * y) * (1.0 / c.sigma)
                dpair = (-4.0 * c.A * c.epsilon * c.B) * (sr4 * rinv) - pair * dy
                at = found * _KEPT
                put(kept, at, n)
                store(kept, at + 3 * LANES, rinv)
                store(kept, at + 4 * LANES, gx)
                store(kept, at + 5 * LANES, (-c.gamma) * (dy * gx))
                store(kept, at + 6 * LANES, 0.5 * ex * dpair)
                ends[found] = there
                found += 1
        same = (1.0 - c0) * (1.0 - c0)
        moments = contract(q, q) - (2.0 * c0) * dot(p, p) + (c0 * c0) * (s * s) - same * d
        energy += strength * moments
        if want_gradient:
            _turn(g, i * ATOM, kept, ends, found, s, p, q, c)
    return energy


@njit(**JIT)
def energies(u, pairs, box, c, energy, gradient, extent, want_gradient):
    """Energies (B,), gradients (B, 3n) and largest squared displacements (B,) of rows ``u``.

    ``pairs`` lists every pair from both ends; ``box`` is None, or three lengths to round every
    pair vector to its nearest image.
    """
    batch, size = u.shape
    x = aligned(size * LANES)
    g = aligned(size * LANES)
    lengths = np.empty(size // 3)
    most = np.max(pairs.offsets[1:] - pairs.offsets[:-1])
    kept = aligned(most * _KEPT)
    ends = np.empty(most, np.int64)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        squared, longest = pack(u, first, count, x, lengths)
        clear(g)
        value = _energy(x, g, lengths, longest, pairs, box, c, kept, ends, want_gradient)
        spread(value, first, count, energy)
        spread(squared, first, count, extent)
        if want_gradient:
            unpack(g, first, count, gradient)
