"""Quadratic forms of the surroundings of every atom, eight configurations at a time.

For atom i with bonds b_j = d_j + u_j - u_i to its listed neighbours, r = |b|, n = b / r and
Gaussians p_m(r) on an even grid

    S_m = sum_j p_m,   P_m = sum_j p_m n,   Q_m = sum_j p_m n n

give the functions  sum_i S_m^2 / 2,  sum_i |P_m|^2 / 2,  sum_i Q_m : Q_m / 2,  in this order for
m = 0, then m = 1, and so on: many-body functions of density, asymmetry and angles.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.blocks import aligned, clear, pack, spread, unpack
from helmflow.kernels.cache import entry
from helmflow.kernels.gaussians import FAR, Grid
from helmflow.kernels.simd import (
    INLINE,
    INNER,
    LANES,
    LOG2_E,
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
    dot,
    fetch,
    put,
    scale,
    subtract,
    times,
)

WIDTH = 4
"""Columns of the covariance factor that are multiplied together."""

FORMS = 3


class Surroundings(NamedTuple):
    """Neighbours of every atom and how their relative displacements vary in the base.

    neighbour, (n k) int64: far ends. bond, (3 n k): reference vectors. kind, (n,) int64: which
    table an atom uses. covariance, (kinds, 6 k): that of each bond (xx xy xz yy yz zz). factor,
    (kinds, 3 k, 3 k padded to a multiple of WIDTH): lower triangular L with L L^T the joint
    covariance of all bonds of an atom.
    """

    neighbour: np.ndarray
    bond: np.ndarray
    kind: np.ndarray
    covariance: np.ndarray
    factor: np.ndarray
    grid: Grid


class Scratch(NamedTuple):
    """For one atom: geometry of its bonds, Gaussians, their gradients, and the form's gradient."""

    near: np.ndarray
    shape: np.ndarray
    g: np.ndarray
    slope: np.ndarray


@njit(**INNER)
def _geometry(x, i, s, near, covariance):
    """Directions, lengths and covariances along the bonds of atom i, to ``near``."""
    k = s.covariance.shape[1] // 6
    here = fetch(x, i * ATOM)
    for j in range(k):
        at = i * k + j
        w = subtract(fetch(x, s.neighbour[at] * ATOM), here)
        b = (
            w[0] + item(s.bond, 3 * at),
            w[1] + item(s.bond, 3 * at + 1),
            w[2] + item(s.bond, 3 * at + 2),
        )
        r = sqrt(dot(b, b))
        inverse = 1.0 / r
        n = scale(inverse, b)
        c = _bond_covariance(covariance, j)
        cn = times(c, n)
        base = j * 8 * LANES
        put(near, base, n)
        put(near, base + 3 * LANES, cn)
        store(near, base + 6 * LANES, r)
        store(near, base + 7 * LANES, inverse)


@njit(**INLINE)
def _bond_covariance(covariance, j):
    at = 6 * j
    upper = (item(covariance, at), item(covariance, at + 1), item(covariance, at + 2))
    lower = (item(covariance, at + 3), item(covariance, at + 4), item(covariance, at + 5))
    return upper + lower


@njit(**INNER)
def _radial(scratch, k, centre, width):
    """p, p' and p'' of one Gaussian for all bonds."""
    near, shape = scratch.near, scratch.shape
    for j in range(k):
        t = (load(near, j * 8 * LANES + 6 * LANES) - centre) * (1.0 / width)
        close = t * t < FAR
        t = select(close, t, 0.0)
        p = select(close, exp2((-0.5 * LOG2_E) * (t * t)), 0.0)
        at = j * 3 * LANES
        store(shape, at, p)
        store(shape, at + LANES, p * t * (-1.0 / width))
        store(shape, at + 2 * LANES, p * (t * t - 1.0) * (1.0 / (width * width)))


@njit(**INNER)
def _squared(g, factor):
    """|L^T g|^2 for vectors g; L has rows of as many numbers, a multiple of WIDTH."""
    size = g.size // LANES
    total = splat(0.0)
    zero = splat(0.0)
    for a in range(0, size, WIDTH):
        y0, y1, y2, y3 = zero, zero, zero, zero
        for b in range(a, size):
            v = load(g, b * LANES)
            row = b * size + a
            y0 += v * item(factor, row)
            y1 += v * item(factor, row + 1)
            y2 += v * item(factor, row + 2)
            y3 += v * item(factor, row + 3)
        total += y0 * y0 + y1 * y1 + (y2 * y2 + y3 * y3)
    return total


@njit(**INNER)
def _density(scratch, covariance, factor):
    """S^2/2 of one atom and Gaussian: gradient per bond to ``slope``; returns the trace."""
    near, shape, g, slope = scratch.near, scratch.shape, scratch.g, scratch.slope
    k = covariance.size // 6
    s, bend = splat(0.0), splat(0.0)
    for j in range(k):
        base, at = j * 8 * LANES, j * 3 * LANES
        n, cn = fetch(near, base), fetch(near, base + 3 * LANES)
        p, p1, p2 = load(shape, at), load(shape, at + LANES), load(shape, at + 2 * LANES)
        trace = item(covariance, 6 * j) + item(covariance, 6 * j + 3) + item(covariance, 6 * j + 5)
        ncn = dot(n, cn)
        s += p
        bend += p2 * ncn + p1 * load(near, base + 7 * LANES) * (trace - ncn)
        put(g, at, scale(p1, n))
    for j in range(k):
        put(slope, j * ATOM, scale(s, fetch(g, j * ATOM)))
    return _squared(g, factor) + s * bend


@njit(**INNER)
def _asymmetry(scratch, covariance, factor):
    """|P|^2/2 of one atom and Gaussian: gradient per bond to ``slope``; returns the trace."""
    near, shape, g, slope = scratch.near, scratch.shape, scratch.g, scratch.slope
    k = covariance.size // 6
    zero = splat(0.0)
    total = (zero, zero, zero)
    for j in range(k):
        total = add(total, scale(load(shape, j * 3 * LANES), fetch(near, j * 8 * LANES)))
    trace = zero
    for j in range(k):
        base, at = j * 8 * LANES, j * 3 * LANES
        n, cn = fetch(near, base), fetch(near, base + 3 * LANES)
        r, inverse = load(near, base + 6 * LANES), load(near, base + 7 * LANES)
        p, p1, p2 = load(shape, at), load(shape, at + LANES), load(shape, at + 2 * LANES)
        across = p * inverse
        q1 = (p1 - across) * inverse
        q2 = (p2 - 2.0 * q1) * inverse
        whole = item(covariance, 6 * j) + item(covariance, 6 * j + 3) + item(covariance, 6 * j + 5)
        ncn = dot(n, cn)
        along = dot(total, n)
        trace += (r * q2 * ncn + q1 * (whole - ncn)) * along + 2.0 * q1 * dot(total, cn)
        put(slope, j * ATOM, add(scale((p1 - across) * along, n), scale(across, total)))
    for axis in range(3):
        for j in range(k):
            base, at = j * 8 * LANES, j * 3 * LANES
            across = load(shape, at) * load(near, base + 7 * LANES)
            rest = (load(shape, at + LANES) - across) * load(near, base + axis * LANES)
            put(g, at, scale(rest, fetch(near, base)))
            store(g, at + axis * LANES, load(g, at + axis * LANES) + across)
        trace += _squared(g, factor)
    return trace


@njit(**INNER)
def _angles(scratch, covariance, factor):
    """Q:Q/2 of one atom and Gaussian: gradient per bond to ``slope``; returns the trace."""
    near, shape, g, slope = scratch.near, scratch.shape, scratch.g, scratch.slope
    k = covariance.size // 6
    zero = splat(0.0)
    xx, xy, xz, yy, yz, zz = zero, zero, zero, zero, zero, zero
    for j in range(k):
        n, p = fetch(near, j * 8 * LANES), load(shape, j * 3 * LANES)
        a, b, c = scale(p, n)
        xx += a * n[0]
        xy += a * n[1]
        xz += a * n[2]
        yy += b * n[1]
        yz += b * n[2]
        zz += c * n[2]
    q = (xx, xy, xz, yy, yz, zz)
    trace = zero
    for j in range(k):
        base, at = j * 8 * LANES, j * 3 * LANES
        n, cn = fetch(near, base), fetch(near, base + 3 * LANES)
        inverse = load(near, base + 7 * LANES)
        p, p1, p2 = load(shape, at), load(shape, at + LANES), load(shape, at + 2 * LANES)
        across = p * inverse
        # f = p / r^2 and its derivatives, times r^2, r^2 and r^2: what multiplies n n.
        f1 = p1 - 2.0 * across
        f2 = p2 - 4.0 * p1 * inverse + 6.0 * across * inverse
        c = _bond_covariance(covariance, j)
        whole = c[0] + c[3] + c[5]
        ncn = dot(n, cn)
        qn = times(q, n)
        nqn = dot(n, qn)
        overlap = q[0] * c[0] + q[3] * c[3] + q[5] * c[5]
        overlap += 2.0 * (q[1] * c[1] + q[2] * c[2] + q[4] * c[4])
        trace += (f2 * ncn + f1 * inverse * (whole - ncn)) * nqn
        trace += 4.0 * f1 * inverse * dot(qn, cn) + 2.0 * across * inverse * overlap
        put(slope, j * ATOM, add(scale(f1 * nqn, n), scale(2.0 * across, qn)))
    for first in range(3):
        for second in range(first, 3):
            for j in range(k):
                base, at = j * 8 * LANES, j * 3 * LANES
                n1, n2 = load(near, base + first * LANES), load(near, base + second * LANES)
                across = load(shape, at) * load(near, base + 7 * LANES)
                f1 = load(shape, at + LANES) - 2.0 * across
                put(g, at, scale(f1 * n1 * n2, fetch(near, base)))
                store(g, at + first * LANES, load(g, at + first * LANES) + across * n2)
                store(g, at + second * LANES, load(g, at + second * LANES) + across * n1)
            weight = 1.0 if first == second else 2.0
            trace += weight * _squared(g, factor)
    return trace


@njit(**INNER)
def _form(which, scratch, covariance, factor):
    if which == 0:
        return _density(scratch, covariance, factor)
    if which == 1:
        return _asymmetry(scratch, covariance, factor)
    return _angles(scratch, covariance, factor)


@njit(**INNER)
def _scratch(k, size):
    g = aligned(size * LANES)
    clear(g)
    return Scratch(aligned(8 * k * LANES), aligned(3 * k * LANES), g, aligned(3 * k * LANES))


@entry
def contract(u, s, weights, gradient, trace):
    """Gradient (B, 3n) and trace tr[C grad grad] (B,) of the weighted sum of all forms.

    u: (B, 3n). weights: (number of Gaussians x FORMS,).
    """
    batch, n3 = u.shape
    k, size = s.covariance.shape[1] // 6, s.factor.shape[1]
    x, out, lengths = aligned(n3 * LANES), aligned(n3 * LANES), np.empty(n3 // 3)
    scratch = _scratch(k, size)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        pack(u, first, count, x, lengths)
        clear(out)
        total = splat(0.0)
        for i in range(n3 // 3):
            covariance, factor = s.covariance[s.kind[i]], s.factor[s.kind[i]].reshape(-1)
            _geometry(x, i, s, scratch.near, covariance)
            for m in range(s.grid.size):
                _radial(scratch, k, s.grid.first + m * s.grid.spacing, s.grid.width)
                for which in range(FORMS):
                    weight = weights[FORMS * m + which]
                    part = _form(which, scratch, covariance, factor)
                    total += weight * part
                    back = fetch(out, i * ATOM)
                    for j in range(k):
                        f = scale(splat(weight), fetch(scratch.slope, j * ATOM))
                        accumulate(out, s.neighbour[i * k + j] * ATOM, f)
                        back = subtract(back, f)
                    put(out, i * ATOM, back)
        spread(total, first, count, trace)
        unpack(out, first, count, gradient)


@entry
def stein(u, direction, s, out):
    """out[f, b] = grad phi_f . direction - tr[C grad grad phi_f] for every form f."""
    batch, n3 = u.shape
    k, size = s.covariance.shape[1] // 6, s.factor.shape[1]
    x, a, lengths = aligned(n3 * LANES), aligned(n3 * LANES), np.empty(n3 // 3)
    scratch = _scratch(k, size)
    n_forms = FORMS * s.grid.size
    sums = aligned(n_forms * LANES)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        pack(direction, first, count, a, lengths)
        pack(u, first, count, x, lengths)
        clear(sums)
        for i in range(n3 // 3):
            covariance, factor = s.covariance[s.kind[i]], s.factor[s.kind[i]].reshape(-1)
            _geometry(x, i, s, scratch.near, covariance)
            here = fetch(a, i * ATOM)
            for m in range(s.grid.size):
                _radial(scratch, k, s.grid.first + m * s.grid.spacing, s.grid.width)
                for which in range(FORMS):
                    at = (FORMS * m + which) * LANES
                    part = _form(which, scratch, covariance, factor)
                    value = load(sums, at) - part
                    for j in range(k):
                        there = fetch(a, s.neighbour[i * k + j] * ATOM)
                        value += dot(fetch(scratch.slope, j * ATOM), subtract(there, here))
                    store(sums, at, value)
        for f in range(n_forms):
            spread(load(sums, f * LANES), first, count, out[f])
