"""Forces, curvatures and their slopes of a weighted sum of radial functions of bonds."""

import numba
import numpy as np

from helmflow.kernels import simd
from helmflow.kernels.blocks import aligned, clear, pack, unpack
from helmflow.kernels.cache import entry
from helmflow.kernels.radial import Bonds, derivatives, three
from helmflow.kernels.vectors import (
    accumulate,
    add,
    add_symmetric,
    dot,
    fetch,
    outer,
    put,
    scale,
    subtract,
    times,
)

NUMBERS = 9
"""Per bond: six of the curvature (xx xy xz yy yz zz), three of the slope of its trace."""

Array = np.ndarray


@numba.njit(**simd.INLINE)
def _put_symmetric(out, at, q):
    put(out, at, (q[0], q[1], q[2]))
    put(out, at + 3 * simd.LANES, (q[3], q[4], q[5]))


@numba.njit(**simd.INLINE)
def _one_side(sign, w, d, c, radial):
    """Gradient, Hessian H and gradient of tr[c H], all in w, of one function of |d + sign w|."""
    grid, weights, start = radial
    b = add(scale(sign, w), d)
    r = simd.sqrt(dot(b, b))
    inverse = 1.0 / r
    n = scale(inverse, b)
    slope, bend, twist = derivatives(r, grid, weights, start)
    across = slope * inverse
    excess = bend - across
    nn = outer(n, n)
    hessian = (
        excess * nn[0] + across,
        excess * nn[1],
        excess * nn[2],
        excess * nn[3] + across,
        excess * nn[4],
        excess * nn[5] + across,
    )
    cn = times(c, n)
    ncn = dot(n, cn)
    rest = c[0] + c[3] + c[5] - ncn
    along = sign * (twist * ncn + excess * inverse * (rest - 2.0 * ncn))
    trace_slope = add(scale(along, n), scale(sign * 2.0 * excess * inverse, cn))
    return scale(sign * slope, n), hessian, trace_slope


@numba.njit(**simd.INNER)
def _block(x, g, numbers, bonds, weights, mirrored):
    lanes = simd.LANES
    n_radial = np.int64(bonds.grid[3])
    zero = simd.splat(0.0)
    for pair in range(len(bonds.first)):
        i = np.int64(simd.item(bonds.first, pair)) * (3 * lanes)
        j = np.int64(simd.item(bonds.second, pair)) * (3 * lanes)
        d = three(bonds.vector, 3 * pair)
        cxx, cyy, czz = three(bonds.spread, 6 * pair)
        cxy, cxz, cyz = three(bonds.spread, 6 * pair + 3)
        c = (cxx, cxy, cxz, cyy, cyz, czz)
        w = subtract(fetch(x, j), fetch(x, i))
        stiff = weights[0] / (d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
        whole = weights[1]
        force = add(scale(dot(w, d) * stiff, d), scale(whole, w))
        dd = outer(d, d)
        curvature = (
            zero + (stiff * dd[0] + whole),
            zero + stiff * dd[1],
            zero + stiff * dd[2],
            zero + (stiff * dd[3] + whole),
            zero + stiff * dd[4],
            zero + (stiff * dd[5] + whole),
        )
        slope = (zero, zero, zero)
        for side in range(1 + mirrored):
            radial = (bonds.grid, weights, 2 + side * n_radial)
            part = _one_side(1.0 - 2.0 * side, w, d, c, radial)
            force = add(force, part[0])
            curvature = add_symmetric(curvature, part[1])
            slope = add(slope, part[2])
        accumulate(g, j, force)
        accumulate(g, i, (-force[0], -force[1], -force[2]))
        at = pair * (NUMBERS * lanes)
        _put_symmetric(numbers, at, curvature)
        put(numbers, at + 6 * lanes, slope)


@entry
def bonds(
    u: Array,
    first: Array,
    second: Array,
    bond: Array,
    spread: Array,
    grid: Array,
    weights: Array,
    mirrored: int,
    gradient: Array,
    numbers: Array,
) -> None:
    """Fill ``gradient`` (B, 3n) of Phi and the ``numbers`` (B, 9 P) of its bonds.

    Phi = sum_k weights_k phi_k with functions and arguments as in `helmflow.kernels.radial`.
    Of every bond, with h its part of Phi as a function of w: the Hessian of h, and the gradient
    of tr[C hess h], C the covariance of w.
    """
    batch, n = u.shape
    lanes = simd.LANES
    listed = Bonds(first, second, bond, spread, grid)
    x, g = aligned(n * lanes), aligned(n * lanes)
    block = aligned(numbers.shape[1] * lanes)
    lengths = np.empty(n // 3)
    for start in range(0, batch, lanes):
        count = min(lanes, batch - start)
        pack(u, start, count, x, lengths)
        clear(g)
        _block(x, g, block, listed, weights, mirrored)
        unpack(g, start, count, gradient)
        unpack(block, start, count, numbers)


@entry
def apply(
    numbers: Array, a: Array, first: Array, second: Array, gradient: Array, trace: Array
) -> None:
    """Fill ``gradient`` = H a (B, 3n) and add (grad tr[K^-1 H]) . a to ``trace`` (B,).

    numbers: of ``bonds``, H being the Hessian of Phi. a: (B, 3n).
    """
    gradient[:] = 0.0
    for row in range(len(a)):
        total = 0.0
        for pair in range(len(first)):
            i, j, at = 3 * first[pair], 3 * second[pair], NUMBERS * pair
            ax = a[row, j] - a[row, i]
            ay = a[row, j + 1] - a[row, i + 1]
            az = a[row, j + 2] - a[row, i + 2]
            h = numbers[row, at : at + NUMBERS]
            gx = h[0] * ax + h[1] * ay + h[2] * az
            gy = h[1] * ax + h[3] * ay + h[4] * az
            gz = h[2] * ax + h[4] * ay + h[5] * az
            total += h[6] * ax + h[7] * ay + h[8] * az
            gradient[row, j] += gx
            gradient[row, j + 1] += gy
            gradient[row, j + 2] += gz
            gradient[row, i] -= gx
            gradient[row, i + 1] -= gy
            gradient[row, i + 2] -= gz
        trace[row] += total
