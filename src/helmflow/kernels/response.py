"""Forces, curvatures and their slopes of a weighted sum of radial functions of bonds."""

import numpy as np
from numba import njit

from helmflow.kernels.blocks import aligned, clear, pack, unpack
from helmflow.kernels.cache import entry
from helmflow.kernels.radial import bond, derivatives, length_and_direction
from helmflow.kernels.simd import INLINE, INNER, LANES, splat
from helmflow.kernels.vectors import (
    ATOM,
    accumulate,
    add,
    add_symmetric,
    dot,
    outer,
    put,
    scale,
    times,
)

NUMBERS = 9
"""Per bond: six of the curvature (xx xy xz yy yz zz), three of the slope of its trace."""


@njit(**INLINE)
def _curvature(across, excess, n):
    """``across I + excess n n``."""
    nn = outer(n, n)
    return (
        excess * nn[0] + across,
        excess * nn[1],
        excess * nn[2],
        excess * nn[3] + across,
        excess * nn[4],
        excess * nn[5] + across,
    )


@njit(**INLINE)
def _one_side(sign, w, d, c, radial):
    """Gradient, Hessian H and gradient of tr[c H], all in w, of one function of |d + sign w|."""
    grid, weights, start = radial
    r, inverse, n = length_and_direction(sign, w, d)
    slope, bend, twist = derivatives(r, grid, weights, start)
    across = slope * inverse
    excess = bend - across
    cn = times(c, n)
    ncn = dot(n, cn)
    rest = c[0] + c[3] + c[5] - ncn
    along = sign * (twist * ncn + excess * inverse * (rest - 2.0 * ncn))
    trace_slope = add(scale(along, n), scale(sign * 2.0 * excess * inverse, cn))
    return scale(sign * slope, n), _curvature(across, excess, n), trace_slope


@njit(**INNER)
def _block(x, g, numbers, bonds, weights, mirrored):
    zero = splat(0.0)
    for pair in range(len(bonds.first)):
        i, j, d, w, c = bond(x, bonds, pair)
        stiff, whole = weights[0] / dot(d, d), weights[1]
        force = add(scale(dot(w, d) * stiff, d), scale(whole, w))
        curvature = _curvature(zero + whole, zero + stiff, d)
        slope = (zero, zero, zero)
        for side in range(1 + mirrored):
            radial = (bonds.grid, weights, 2 + side * bonds.grid.size)
            part = _one_side(1.0 - 2.0 * side, w, d, c, radial)
            force = add(force, part[0])
            curvature = add_symmetric(curvature, part[1])
            slope = add(slope, part[2])
        accumulate(g, j, force)
        accumulate(g, i, scale(-1.0, force))
        at = pair * (NUMBERS * LANES)
        put(numbers, at, curvature[:3])
        put(numbers, at + ATOM, curvature[3:])
        put(numbers, at + 2 * ATOM, slope)


@entry
def bonds(u, listed, weights, mirrored, gradient, numbers):
    """Fill ``gradient`` (B, 3n) of Phi and the ``numbers`` (B, 9 P) of the bonds ``listed``.

    Phi = sum_k weights_k phi_k with functions and arguments as in `helmflow.kernels.radial`.
    Of every bond, with h its part of Phi as a function of w: the Hessian of h, and the gradient
    of tr[C hess h], C the covariance of w.
    """
    batch, size = u.shape
    x, g, lengths = aligned(size * LANES), aligned(size * LANES), np.empty(size // 3)
    block = aligned(numbers.shape[1] * LANES)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        pack(u, first, count, x, lengths)
        clear(g)
        _block(x, g, block, listed, weights, mirrored)
        unpack(g, first, count, gradient)
        unpack(block, first, count, numbers)


@entry
def apply(numbers, a, first, second, gradient, trace):
    """Fill ``gradient`` = H a (B, 3n) and add (grad tr[K^-1 H]) . a to ``trace`` (B,).

    numbers: of ``bonds``, H being the Hessian of Phi. a: (B, 3n). first, second: as in `Bonds`.
    """
    gradient[:] = 0.0
    for row in range(len(a)):
        total = 0.0
        for pair in range(len(first)):
            i, j, at = 3 * first[pair], 3 * second[pair], NUMBERS * pair
            v = (
                a[row, j] - a[row, i],
                a[row, j + 1] - a[row, i + 1],
                a[row, j + 2] - a[row, i + 2],
            )
            h = numbers[row, at : at + NUMBERS]
            force = times(h, v)
            total += dot(h[6:], v)
            for axis in range(3):
                gradient[row, j + axis] += force[axis]
                gradient[row, i + axis] -= force[axis]
        trace[row] += total
