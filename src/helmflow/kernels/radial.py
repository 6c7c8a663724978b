"""Stein functions of radial pair potentials, eight configurations at a time."""

from typing import NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.blocks import aligned, clear, pack, spread, unpack
from helmflow.kernels.cache import entry
from helmflow.kernels.gaussians import Grid, first_gaussian, following, step_of
from helmflow.kernels.simd import INLINE, INNER, LANES, item, load, splat, sqrt, store
from helmflow.kernels.vectors import ATOM, accumulate, add, dot, fetch, scale, subtract, times


class Bonds(NamedTuple):
    """Bonds between sites ``first`` and ``second``, and an even grid of Gaussians of their length.

    first, second: (P,) int32. vector: (3 P) reference vectors d. spread: (6 P) covariance of the
    relative displacement w = u_second - u_first (xx xy xz yy yz zz).
    """

    first: np.ndarray
    second: np.ndarray
    vector: np.ndarray
    spread: np.ndarray
    grid: Grid


@njit(**INLINE)
def bond(x, bonds, pair):
    """Where both ends of a bond are in a block, its d, w, and the covariance of w."""
    i = np.int64(item(bonds.first, pair)) * ATOM
    j = np.int64(item(bonds.second, pair)) * ATOM
    at, c = 3 * pair, 6 * pair
    d = (item(bonds.vector, at), item(bonds.vector, at + 1), item(bonds.vector, at + 2))
    upper = (item(bonds.spread, c), item(bonds.spread, c + 1), item(bonds.spread, c + 2))
    lower = (item(bonds.spread, c + 3), item(bonds.spread, c + 4), item(bonds.spread, c + 5))
    return i, j, d, subtract(fetch(x, j), fetch(x, i)), upper + lower


@njit(**INLINE)
def length_and_direction(sign, w, d):
    """r, 1/r and the unit vector of d + sign w."""
    b = add(scale(sign, w), d)
    r = sqrt(dot(b, b))
    inverse = 1.0 / r
    return r, inverse, scale(inverse, b)


@njit(**INNER)
def _stein_block(x, a, bonds, sign, out):
    """One block; ``out`` holds as many vectors as there are Gaussians, and 2."""
    step, inverse_width = step_of(bonds.grid), 1.0 / bonds.grid.width
    clear(out)
    for pair in range(len(bonds.first)):
        i, j, d, w, c = bond(x, bonds, pair)
        v = subtract(fetch(a, j), fetch(a, i))
        trace = c[0] + c[3] + c[5]
        along = dot(w, d) * dot(v, d) - dot(d, times(c, d))
        store(out, 0, load(out, 0) + along / dot(d, d))
        store(out, LANES, load(out, LANES) + (dot(w, v) - trace))
        r, inverse, n = length_and_direction(sign, w, d)
        ncn = dot(n, times(c, n))
        slope = (sign * dot(n, v) - (trace - ncn) * inverse) * inverse_width
        bend = ncn * (inverse_width * inverse_width)
        gaussian = first_gaussian(r, bonds.grid)
        for k in range(bonds.grid.size):
            t, psi, _ = gaussian
            at = (k + 2) * LANES
            store(out, at, load(out, at) - psi * (t * slope + (t * t - 1.0) * bend))
            gaussian = following(gaussian, step)


@entry
def stein(u, direction, bonds, sign, out):
    """Fill out[k, b] with S_k = grad phi_k . direction - tr[C grad grad phi_k].

    phi_0 = sum (n0.w)^2 / 2, phi_1 = sum w^2 / 2 and phi_{2+k} = sum psi_k(|d + sign w|) over
    ``bonds``, psi_k a Gaussian of the grid and n0 the direction of d. u, direction: (B, 3 n).
    """
    batch, size = u.shape
    x, a, lengths = aligned(size * LANES), aligned(size * LANES), np.empty(size // 3)
    sums = aligned((bonds.grid.size + 2) * LANES)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        pack(u, first, count, x, lengths)
        pack(direction, first, count, a, lengths)
        _stein_block(x, a, bonds, sign, sums)
        for k in range(out.shape[0]):
            spread(load(sums, k * LANES), first, count, out[k])


@njit(**INLINE)
def derivatives(r, grid, weights, start):
    """First three derivatives at r of the weighted sum of Gaussians of an even grid."""
    step, inverse = step_of(grid), 1.0 / grid.width
    gaussian = first_gaussian(r, grid)
    slope, bend, twist = splat(0.0), splat(0.0), splat(0.0)
    for k in range(grid.size):
        t, psi, _ = gaussian
        part = psi * item(weights, start + k)
        slope -= part * t
        bend += part * (t * t - 1.0)
        twist += part * t * (3.0 - t * t)
        gaussian = following(gaussian, step)
    return slope * inverse, bend * (inverse * inverse), twist * (inverse * inverse * inverse)


@njit(**INNER)
def _contract_block(x, g, bonds, weights, mirrored):
    """Adds the weighted gradient of one block to ``g``; returns the weighted trace."""
    total, fixed = splat(0.0), 0.0
    for pair in range(len(bonds.first)):
        i, j, d, w, c = bond(x, bonds, pair)
        trace, stiff = c[0] + c[3] + c[5], weights[0] / dot(d, d)
        force = add(scale(dot(w, d) * stiff, d), scale(weights[1], w))
        fixed += stiff * dot(d, times(c, d)) + weights[1] * trace
        for side in range(1 + mirrored):
            sign = 1.0 - 2.0 * side
            r, inverse, n = length_and_direction(sign, w, d)
            slope, bend, _ = derivatives(r, bonds.grid, weights, 2 + side * bonds.grid.size)
            ncn = dot(n, times(c, n))
            total += bend * ncn + slope * inverse * (trace - ncn)
            force = add(force, scale(sign * slope, n))
        accumulate(g, j, force)
        accumulate(g, i, scale(-1.0, force))
    return total + fixed


@entry
def contract(u, bonds, weights, mirrored, gradient, trace):
    """Fill ``gradient`` with sum_k b_k grad phi_k, ``trace`` with sum_k b_k tr[C grad grad phi_k].

    Functions and arguments as in ``stein``; ``weights`` = b holds the two quadratic forms, the
    Gaussians of |d + w| and, with ``mirrored = 1``, those of |d - w|.
    """
    batch, size = u.shape
    x, g, lengths = aligned(size * LANES), aligned(size * LANES), np.empty(size // 3)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        pack(u, first, count, x, lengths)
        clear(g)
        spread(_contract_block(x, g, bonds, weights, mirrored), first, count, trace)
        unpack(g, first, count, gradient)
