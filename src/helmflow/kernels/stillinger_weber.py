"""Stillinger-Weber energies and gradients of a batch of displaced crystals.

The three-body sum over pairs of neighbours of an atom is a polynomial in moments of its
neighbours. With ``g = exp(gamma sigma / (r - a sigma))`` and unit vectors ``n``,

    sum_{j<k} g_j g_k (n_j.n_k - c)^2 = (Q:Q - 2 c P.P + c^2 S^2 - (1 - c)^2 D) / 2,
    S = sum g,   P = sum g n,   Q = sum g n n,   D = sum g^2.

So one pass over the pairs adds up the moments of both atoms, and a second one finds the force
along and across every pair from the moments at its two ends. Seen from the other end ``n``
changes sign, which turns the sum over both ends into Q + Q' and P - P'.
"""

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
    spread,
    unpack,
)
from helmflow.kernels.cache import entry
from helmflow.kernels.simd import (
    INLINE,
    INNER,
    LANES,
    LOG2_E,
    any_lane,
    exp2,
    item,
    load,
    select,
    splat,
    sqrt,
    store,
)
from helmflow.kernels.vectors import (
    ATOM,
    accumulate,
    add,
    add_symmetric,
    contract,
    dot,
    fetch,
    fetch_symmetric,
    outer,
    scale,
    subtract,
    times,
)

# Stored per pair between the passes: 1/r, g, -lambda epsilon dg/dr, minus the slope of the pair
# energy. The rest is cheaper to compute again than to store: a block must fit into the L2 cache.
_PAIR_TERMS = 4 * LANES

# Moments per atom: S, P (3), Q (6).
_MOMENTS = 10 * LANES


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


class Block(NamedTuple):
    """Scratch of one block: per atom, and per pair in range where it says so."""

    x: np.ndarray
    g: np.ndarray
    lengths: np.ndarray
    near: np.ndarray
    far: np.ndarray
    moments: np.ndarray
    pair_terms: np.ndarray
    """Per pair, see ``_PAIR_TERMS``."""
    inside: np.ndarray
    """Per pair, its place in the list."""
    stops: np.ndarray
    """Number of pairs in range of this atom and of those before it."""


@njit(**INLINE)
def radial(r2, inside, c):
    """(1/r, 1/gap, exp y, exp gamma y), ``gap = r - a sigma`` and ``y = sigma / gap``.

    ``r2`` is r^2; the exponentials are zero outside.
    """
    r = sqrt(r2)
    gap = select(inside, r - c.a * c.sigma, -1.0)
    # One division for 1/r and 1/gap.
    both = 1.0 / (r * gap)
    scaled = (c.sigma * LOG2_E) * (both * r)
    if abs(c.gamma - 1.2) < 1e-15:
        # The published gamma: both are powers of one exponential.
        t = exp2(0.2 * scaled)
        t2 = t * t
        t4 = t2 * t2
        return both * gap, both * r, select(inside, t4 * t, 0.0), select(inside, t4 * t2, 0.0)
    ex = select(inside, exp2(scaled), 0.0)
    return both * gap, both * r, ex, select(inside, exp2(c.gamma * scaled), 0.0)


@njit(**INLINE)
def _moments(moments, atom):
    """S, P and Q of an atom."""
    at = atom * _MOMENTS
    return (
        load(moments, at),
        fetch(moments, at + LANES),
        fetch_symmetric(moments, at + LANES + ATOM),
    )


@njit(**INLINE)
def _add_moments(moments, atom, s, p, q):
    """Add to S, P and Q of an atom."""
    at = atom * _MOMENTS
    store(moments, at, load(moments, at) + s)
    accumulate(moments, at + LANES, p)
    accumulate(moments, at + LANES + ATOM, (q[0], q[1], q[2]))
    accumulate(moments, at + LANES + 2 * ATOM, (q[3], q[4], q[5]))


@njit(**INNER)
def _collect(block, longest, pairs, c, keep):
    """First pass: fills the moments, returns the pair energy and the sum of g^2.

    With ``keep`` it leaves what the second pass needs of every pair in range.
    """
    zero = splat(0.0)
    attraction = c.A * c.epsilon
    repulsion = attraction * c.B * c.sigma**4
    strength = c.lambda_ * c.epsilon
    energy = zero
    squares = zero
    n_inside = 0
    clear(block.moments)
    for i in range(block.stops.size):
        start = fetch(block.x, i * ATOM)
        s = zero
        p = (zero, zero, zero)
        q = (zero, zero, zero, zero, zero, zero)
        sure, more = candidates(pairs, i, c.range_, block, longest)
        for m in range(sure + more):
            k = pairs.offsets[i] + m if m < sure else item(block.far, m - sure)
            other = np.int64(item(pairs.index, k))
            vector = pair_vector(block.x, start, other * ATOM, pairs, k)
            r2 = dot(vector, vector)
            inside = r2 < c.range_ * c.range_
            if m >= sure and not any_lane(inside):
                continue
            rinv, igap, ex, g = radial(r2, inside, c)
            rinv2 = rinv * rinv
            rinv4 = rinv2 * rinv2
            pair = repulsion * rinv4 - attraction
            energy += pair * ex
            squares += g * g
            # The vector ends at atom i: atom i sees it from behind.
            n = scale(rinv, vector)
            w = scale(g, n)
            product = outer(w, n)
            s += g
            p = subtract(p, w)
            q = add_symmetric(q, product)
            _add_moments(block.moments, other, g, w, product)
            if keep:
                slope = igap * igap
                force = (4.0 * repulsion) * (rinv4 * rinv) + (c.sigma * slope) * pair
                at = n_inside * _PAIR_TERMS
                store(block.pair_terms, at, rinv)
                store(block.pair_terms, at + LANES, g)
                store(block.pair_terms, at + 2 * LANES, (strength * c.gamma * c.sigma) * g * slope)
                store(block.pair_terms, at + 3 * LANES, ex * force)
                block.inside[n_inside] = k
                n_inside += 1
        _add_moments(block.moments, i, s, p, q)
        block.stops[i] = n_inside
    return energy, squares


@njit(**INNER)
def _three_body(moments, c):
    """Sum over atoms of ``Q:Q - 2 c P.P + c^2 S^2``."""
    c0 = c.cos_theta0
    total = splat(0.0)
    for i in range(moments.size // _MOMENTS):
        s, p, q = _moments(moments, i)
        total += contract(q, q) - (2.0 * c0) * dot(p, p) + (c0 * c0) * (s * s)
    return total


@njit(**INNER)
def _differentiate(block, pairs, c):
    """Second pass: fills the gradient from the moments at both ends of every pair."""
    c0 = c.cos_theta0
    same = 2.0 * (1.0 - c0) * (1.0 - c0)
    strength = c.lambda_ * c.epsilon
    zero = splat(0.0)
    clear(block.g)
    m = 0
    for i in range(block.stops.size):
        start = fetch(block.x, i * ATOM)
        s_here, p_here, q_here = _moments(block.moments, i)
        total = (zero, zero, zero)
        while m < block.stops[i]:
            at = m * _PAIR_TERMS
            k = item(block.inside, m)
            other = np.int64(item(pairs.index, k))
            m += 1
            s, p, q = _moments(block.moments, other)
            rinv = load(block.pair_terms, at)
            g = load(block.pair_terms, at + LANES)
            by_g = load(block.pair_terms, at + 2 * LANES)
            n = scale(rinv, pair_vector(block.x, start, other * ATOM, pairs, k))
            across = (-2.0 * strength) * g * rinv
            # Half the derivatives by the direction, Q n - c P, and by g.
            cp = scale(c0, subtract(p, p_here))
            v = subtract(times(add_symmetric(q, q_here), n), cp)
            vn = dot(v, n)
            by_g *= vn - dot(cp, n) + (c0 * c0) * (s + s_here) - same * g
            along = by_g + load(block.pair_terms, at + 3 * LANES) - across * vn
            f = add(scale(along, n), scale(across, v))
            accumulate(block.g, other * ATOM, f)
            total = subtract(total, f)
        accumulate(block.g, i * ATOM, total)


@entry
def energies(u, pairs, c, out):
    """Fill ``out``, an `Energies`, from rows ``u`` (B, 3n); ``pairs`` lists every pair once."""
    batch, size = u.shape
    atoms = size // 3
    want_gradient = out.gradient.shape[1] > 0
    most = pairs.index.size if want_gradient else 0
    block = Block(
        aligned(size * LANES),
        aligned(size * LANES),
        np.empty(atoms),
        np.zeros(atoms, np.int64),
        np.empty(longest_list(pairs), np.int64),
        aligned(atoms * _MOMENTS),
        aligned(most * _PAIR_TERMS),
        np.empty(most, np.int64),
        np.empty(atoms, np.int64),
    )
    strength = 0.5 * c.lambda_ * c.epsilon
    same = 2.0 * (1.0 - c.cos_theta0) * (1.0 - c.cos_theta0)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        squared, longest = pack(u, first, count, block.x, block.lengths)
        pair, squares = _collect(block, longest, pairs, c, want_gradient)
        three = _three_body(block.moments, c) - same * squares
        spread(pair + strength * three, first, count, out.energy)
        spread(squared, first, count, out.extent)
        if want_gradient:
            _differentiate(block, pairs, c)
            unpack(block.g, first, count, out.gradient)
