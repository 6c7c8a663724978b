"""Traces of covariance times Hessian for the Stillinger-Weber potential.

The energy of one centre is a sum over its neighbours and over pairs of them, so its Hessian in
the pair vectors has blocks (m, m) and (m, q). Blocks (m, m) see the other neighbours only
through their moments (see ``stillinger_weber``); blocks (m, q) need a double loop. The
covariance of two pair vectors is gathered once per centre for a group of blocks.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.blocks import aligned, longest_list, pack, pair_vector, spread
from helmflow.kernels.cache import entry
from helmflow.kernels.pairs import both_ends
from helmflow.kernels.simd import INLINE, INNER, LANES, any_lane, item, load, splat, store
from helmflow.kernels.stillinger_weber import radial
from helmflow.kernels.vectors import (
    ATOM,
    add,
    add_symmetric,
    apply,
    contracted,
    dot,
    fetch,
    outer,
    put,
    quadratic,
    relative,
    scale,
    subtract,
    times,
    trace,
)

# Blocks of lanes that share the covariances gathered for one centre.
_GROUP = 8

# Stored per neighbour: n (3), 1/r, g, dg/dr, d2g/dr2.
_NEIGHBOUR_TERMS = 7 * LANES

# Pairs of neighbours with g g' below this are dropped; the energy ignores them at 2e-22.
_NEGLIGIBLE = 1e-20


class Scratch(NamedTuple):
    """For one centre: what is stored of its neighbours, and the covariances of pairs of them."""

    terms: np.ndarray
    slots: np.ndarray
    """Place in the list of every neighbour in range."""
    blocks: np.ndarray


@njit(**INLINE)
def _two_body(pair, c, blocks, at):
    """Half the pair's part of the trace: every pair is visited from both ends."""
    n, rinv, y, ex = pair
    y1 = (y * y) * (-1.0 / c.sigma)
    y2 = (y * y) * y * (2.0 / (c.sigma * c.sigma))
    s4 = (c.sigma * rinv) * (c.sigma * rinv)
    s4 = s4 * s4
    strength = c.A * c.epsilon
    p = strength * (c.B * s4 - 1.0)
    p1 = (-4.0 * strength * c.B) * (s4 * rinv)
    p2 = (20.0 * strength * c.B) * (s4 * rinv * rinv)
    first = 0.5 * ex * (p1 + p * y1)
    second = 0.5 * ex * (p2 + 2.0 * p1 * y1 + p * (y2 + y1 * y1))
    projected = quadratic(blocks, at, n)
    return second * projected + (first * rinv) * (trace(blocks, at) - projected)


@njit(**INLINE)
def _same(terms, m, moments, c, blocks, at):
    """Trace of block (m, m) of the centre's Hessian, per lambda epsilon.

    The centre's energy as a function of neighbour m alone is ``g(r) phi(n)`` with
    ``phi = n Q n - 2 c P n + c^2 S`` over the other neighbours.
    """
    s, p, q = moments
    here = m * _NEIGHBOUR_TERMS
    n = fetch(terms, here)
    rinv = load(terms, here + 3 * LANES)
    g = load(terms, here + 4 * LANES)
    g1 = load(terms, here + 5 * LANES)
    g2 = load(terms, here + 6 * LANES)
    c0 = c.cos_theta0
    qn = subtract(times(q, n), scale(g, n))
    nqn = dot(qn, n)
    pn = dot(p, n) - g
    phi = nqn - (2.0 * c0) * pn + (c0 * c0) * (s - g)
    # Half the derivative of phi: all of it, its part along n, its part across.
    slope = subtract(qn, scale(c0, subtract(p, scale(g, n))))
    along = dot(slope, n)
    across = subtract(slope, scale(along, n))
    cn = apply(blocks, at, n)
    ncn = dot(cn, n)
    rest = trace(blocks, at) - ncn
    mixed = dot(cn, across)
    bend = contracted(blocks, at, q) - g * ncn - 2.0 * dot(cn, qn) + nqn * ncn
    radial_part = phi * (g2 * ncn + (g1 * rinv) * rest)
    turned = 2.0 * (g * rinv * rinv) * (bend - along * rest - 2.0 * mixed)
    return radial_part + 4.0 * (g1 * rinv) * mixed + turned


@njit(**INLINE)
def _cross(terms, m, k, c0, blocks, at):
    """Trace of blocks (m, k) and (k, m) of the centre's Hessian, per lambda epsilon."""
    here = m * _NEIGHBOUR_TERMS
    there = k * _NEIGHBOUR_TERMS
    a = fetch(terms, here)
    b = fetch(terms, there)
    cos = dot(a, b)
    t = cos - c0
    # Derivatives of g g' (cos - c)^2 along the pairs (radial) and across them.
    radial_a = load(terms, here + 5 * LANES)
    radial_b = load(terms, there + 5 * LANES)
    across_a = load(terms, here + 4 * LANES) * load(terms, here + 3 * LANES)
    across_b = load(terms, there + 4 * LANES) * load(terms, there + 3 * LANES)
    ca = apply(blocks, at, a)
    cb = apply(blocks, at, b)
    aca = dot(a, ca)
    acb = dot(a, cb)
    bca = dot(b, ca)
    bcb = dot(b, cb)
    both_radial = (radial_a * radial_b) * (t * t) * acb
    one_radial = (radial_a * across_b) * (aca - cos * acb)
    one_radial += (across_a * radial_b) * (bcb - cos * acb)
    turned = bca - cos * (aca + bcb) + (cos * cos) * acb
    turned += t * (trace(blocks, at) - aca - bcb + cos * acb)
    return 2.0 * (both_radial + 2.0 * t * one_radial + 2.0 * (across_a * across_b) * turned)


@njit(**INNER)
def _centre(x, i, last, pairs, c, scratch):
    """Part of the trace of one block with atom ``i`` at its centre and pairs up to ``last``."""
    terms, slots, blocks = scratch.terms, scratch.slots, scratch.blocks
    first = pairs.offsets[i]
    total = splat(0.0)
    zero = splat(0.0)
    s = zero
    p = (zero, zero, zero)
    q = (zero, zero, zero, zero, zero, zero)
    start = fetch(x, i * ATOM)
    n_inside = 0
    width = last - first
    for k in range(first, last):
        there = np.int64(item(pairs.index, k)) * ATOM
        vector = pair_vector(x, start, there, pairs, k)
        r2 = dot(vector, vector)
        inside = r2 < c.range_ * c.range_
        if not any_lane(inside):
            continue
        rinv, igap, ex, g = radial(r2, inside, c)
        y = c.sigma * igap
        n = scale(rinv, vector)
        m = k - first
        total += _two_body((n, rinv, y, ex), c, blocks, 9 * (m * width + m))
        w = scale(g, n)
        s += g
        p = add(p, w)
        q = add_symmetric(q, outer(w, n))
        gy1 = (y * y) * (-c.gamma / c.sigma)
        gy2 = (y * y) * y * (2.0 * c.gamma / (c.sigma * c.sigma))
        at = n_inside * _NEIGHBOUR_TERMS
        put(terms, at, n)
        store(terms, at + 3 * LANES, rinv)
        store(terms, at + 4 * LANES, g)
        store(terms, at + 5 * LANES, gy1 * g)
        store(terms, at + 6 * LANES, (gy2 + gy1 * gy1) * g)
        slots[n_inside] = m
        n_inside += 1
    three = zero
    for m in range(n_inside):
        row = item(slots, m) * width
        three += _same(terms, m, (s, p, q), c, blocks, 9 * (row + item(slots, m)))
        g = load(terms, m * _NEIGHBOUR_TERMS + 4 * LANES)
        for k in range(m + 1, n_inside):
            if any_lane(_NEGLIGIBLE < g * load(terms, k * _NEIGHBOUR_TERMS + 4 * LANES)):
                three += _cross(terms, m, k, c.cos_theta0, blocks, 9 * (row + item(slots, k)))
    return total + (c.lambda_ * c.epsilon) * three


@njit(**INNER)
def _gather(covariance, i, last, pairs, blocks):
    """Covariances of the pair vectors of atom ``i`` up to ``last``, upper half."""
    first = pairs.offsets[i]
    width = last - first
    for m in range(width):
        for k in range(m, width):
            at = 9 * (m * width + k)
            atoms = (i, pairs.index[first + m], pairs.index[first + k])
            relative(covariance, atoms, blocks, at)


def traces(u, pairs, c, covariance, out):
    """Fill ``out``, a `Traces`, from rows ``u`` and C (3n, 3n); every pair is listed once."""
    _traces(u, both_ends(pairs), c, covariance, out)


@entry
def _traces(u, pairs, c, covariance, out):
    batch, size = u.shape
    most = longest_list(pairs)
    x = aligned(_GROUP * size * LANES)
    sums = aligned(_GROUP * LANES)
    scratch = Scratch(
        aligned(most * _NEIGHBOUR_TERMS), np.empty(most, np.int64), np.empty(9 * most * most)
    )
    lengths = np.empty(size // 3)
    bounds = np.empty(size // 3)
    for start in range(0, batch, _GROUP * LANES):
        held = min(_GROUP, (batch - start + LANES - 1) // LANES)
        bounds[:] = 0.0
        longest = 0.0
        for b in range(held):
            first = start + b * LANES
            count = min(LANES, batch - first)
            block = x[b * size * LANES : (b + 1) * size * LANES]
            squared, largest = pack(u, first, count, block, lengths)
            spread(squared, first, count, out.extent)
            store(sums, b * LANES, splat(0.0))
            bounds[:] = np.maximum(bounds, lengths)
            longest = max(longest, largest)
        for i in range(size // 3):
            last = pairs.offsets[i]
            reach = c.range_ + bounds[i] + longest
            while last < pairs.offsets[i + 1] and pairs.distances[last] <= reach:
                last += 1
            _gather(covariance, i, last, pairs, scratch.blocks)
            for b in range(held):
                block = x[b * size * LANES : (b + 1) * size * LANES]
                part = _centre(block, i, last, pairs, c, scratch)
                store(sums, b * LANES, load(sums, b * LANES) + part)
        for b in range(held):
            first = start + b * LANES
            spread(load(sums, b * LANES), first, min(LANES, batch - first), out.trace)
