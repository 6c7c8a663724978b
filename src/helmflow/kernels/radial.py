"""Stein functions of radial pair potentials, eight configurations at a time."""

from typing import NamedTuple

import numba
import numpy as np

from helmflow.kernels import simd
from helmflow.kernels.cache import entry
from helmflow.kernels.vectors import accumulate, fetch, subtract

FAR = 900.0
"""Squared distance from the first centre, in widths, beyond which every Gaussian is zero."""

Array = np.ndarray


class Bonds(NamedTuple):
    """Bonds between sites ``first`` and ``second``, and an even grid of Gaussians of their length.

    vector: (3 P) reference vectors. spread: (6 P) covariance of the relative displacement (xx yy
    zz xy xz yz). grid = [first centre, width, spacing, number of Gaussians].
    """

    first: Array
    second: Array
    vector: Array
    spread: Array
    grid: Array


@numba.njit(**simd.INLINE)
def _steps(grid):
    """From one Gaussian to the next, in widths: distance, two factors, and their number."""
    delta = grid[2] / grid[1]
    return delta, np.exp(-0.5 * delta * delta), np.exp(-delta * delta), np.int64(grid[3])


@numba.njit(**simd.INNER)
def _add_gaussians(t, slope, bend, steps, out):
    """One bond's part of every Gaussian of an even grid; t is the distance to the first."""
    delta, fade, shrink, n_radial = steps
    near = t * t < FAR
    t = simd.select(near, t, 0.0)
    # Gaussians on an even grid follow from each other by two multiplications.
    psi = simd.select(near, simd.exp2((-0.5 * simd.LOG2_E) * (t * t)), 0.0)
    ratio = simd.exp2((simd.LOG2_E * delta) * t) * fade
    for k in range(n_radial):
        o = (k + 2) * simd.LANES
        value = psi * (t * slope + (t * t - 1.0) * bend)
        simd.store(out, o, simd.load(out, o) - value)
        psi = psi * ratio
        ratio = ratio * shrink
        t = t - delta


@numba.njit(**simd.INLINE)
def three(numbers, at):
    """Three scalars in a row."""
    return simd.item(numbers, at), simd.item(numbers, at + 1), simd.item(numbers, at + 2)


@numba.njit(**simd.INNER)
def _block(x, a, bonds, sign, out):
    """One block; ``out`` holds as many vectors as there are Gaussians, and 2."""
    lanes, grid = simd.LANES, bonds.grid
    steps = _steps(grid)
    inverse_width = 1.0 / grid[1]
    for k in range(steps[3] + 2):
        simd.store(out, k * lanes, simd.splat(0.0))
    for pair in range(len(bonds.first)):
        i = np.int64(simd.item(bonds.first, pair)) * (3 * lanes)
        j = np.int64(simd.item(bonds.second, pair)) * (3 * lanes)
        dx, dy, dz = three(bonds.vector, 3 * pair)
        cxx, cyy, czz = three(bonds.spread, 6 * pair)
        cxy, cxz, cyz = three(bonds.spread, 6 * pair + 3)
        wx, wy, wz = subtract(fetch(x, j), fetch(x, i))
        ax, ay, az = subtract(fetch(a, j), fetch(a, i))
        trace = cxx + cyy + czz

        length2 = dx * dx + dy * dy + dz * dz
        along = (wx * dx + wy * dy + wz * dz) * (ax * dx + ay * dy + az * dz)
        fixed = cxx * dx * dx + cyy * dy * dy + czz * dz * dz
        fixed += 2.0 * (cxy * dx * dy + cxz * dx * dz + cyz * dy * dz)
        simd.store(out, 0, simd.load(out, 0) + (along - fixed) / length2)
        whole = wx * ax + wy * ay + wz * az - trace
        simd.store(out, lanes, simd.load(out, lanes) + whole)

        bx, by, bz = sign * wx + dx, sign * wy + dy, sign * wz + dz
        r = simd.sqrt(bx * bx + by * by + bz * bz)
        inverse = 1.0 / r
        nx, ny, nz = bx * inverse, by * inverse, bz * inverse
        ncn = nx * (cxx * nx + 2.0 * (cxy * ny + cxz * nz))
        ncn += ny * (cyy * ny + 2.0 * cyz * nz) + czz * nz * nz
        slope = sign * (nx * ax + ny * ay + nz * az) - (trace - ncn) * inverse
        slope = slope * inverse_width
        bend = ncn * (inverse_width * inverse_width)
        t = (r - grid[0]) * inverse_width
        _add_gaussians(t, slope, bend, steps, out)


@entry
def stein(
    u: Array,
    direction: Array,
    first: Array,
    second: Array,
    bond: Array,
    spread: Array,
    grid: Array,
    sign: float,
    out: Array,
) -> None:
    """Fill out[k, b] with S_k = grad phi_k . direction - tr[C grad grad phi_k].

    phi_0 = sum (n0.w)^2 / 2, phi_1 = sum w^2 / 2 and phi_{2+k} = sum psi_k(|d0 + sign w|) over
    pairs, w = u_second - u_first, psi_k a Gaussian of the grid.

    u, direction: (B, 3 n). Arguments as in `Bonds`: bond holds the vectors d0, n0 are their
    directions, and spread the covariance of w.
    """
    batch, n = u.shape
    lanes = simd.LANES
    bonds = Bonds(first, second, bond, spread, grid)
    x, a = np.empty(n * lanes), np.empty(n * lanes)
    sums = np.empty((np.int64(grid[3]) + 2) * lanes)
    for start in range(0, batch, lanes):
        for lane in range(lanes):
            row = min(start + lane, batch - 1)
            for k in range(n):
                x[k * lanes + lane] = u[row, k]
                a[k * lanes + lane] = direction[row, k]
        _block(x, a, bonds, sign, sums)
        for lane in range(min(lanes, batch - start)):
            for k in range(out.shape[0]):
                out[k, start + lane] = sums[k * lanes + lane]


@numba.njit(**simd.INLINE)
def derivatives(r, grid, weights, start):
    """First three derivatives at r of the weighted sum of Gaussians of an even grid."""
    delta, fade, shrink, n_radial = _steps(grid)
    inverse = 1.0 / grid[1]
    t = (r - grid[0]) * inverse
    near = t * t < FAR
    t = simd.select(near, t, 0.0)
    psi = simd.select(near, simd.exp2((-0.5 * simd.LOG2_E) * (t * t)), 0.0)
    ratio = simd.exp2((simd.LOG2_E * delta) * t) * fade
    slope, bend, twist = simd.splat(0.0), simd.splat(0.0), simd.splat(0.0)
    for k in range(n_radial):
        part = psi * simd.item(weights, start + k)
        slope -= part * t
        bend += part * (t * t - 1.0)
        twist += part * t * (3.0 - t * t)
        psi = psi * ratio
        ratio = ratio * shrink
        t = t - delta
    return slope * inverse, bend * (inverse * inverse), twist * (inverse * inverse * inverse)


@numba.njit(**simd.INNER)
def _contract_block(x, g, bonds, weights, mirrored):
    """Adds the weighted gradient of one block to ``g``; returns the weighted trace."""
    lanes, grid = simd.LANES, bonds.grid
    n_radial = np.int64(grid[3])
    along_weight, whole_weight = weights[0], weights[1]
    total, fixed = simd.splat(0.0), 0.0
    for pair in range(len(bonds.first)):
        i = np.int64(simd.item(bonds.first, pair)) * (3 * lanes)
        j = np.int64(simd.item(bonds.second, pair)) * (3 * lanes)
        dx, dy, dz = three(bonds.vector, 3 * pair)
        cxx, cyy, czz = three(bonds.spread, 6 * pair)
        cxy, cxz, cyz = three(bonds.spread, 6 * pair + 3)
        wx, wy, wz = subtract(fetch(x, j), fetch(x, i))
        trace = cxx + cyy + czz

        length2 = dx * dx + dy * dy + dz * dz
        stretch = (wx * dx + wy * dy + wz * dz) * (along_weight / length2)
        gx = stretch * dx + wx * whole_weight
        gy = stretch * dy + wy * whole_weight
        gz = stretch * dz + wz * whole_weight
        dcd = cxx * dx * dx + cyy * dy * dy + czz * dz * dz
        dcd += 2.0 * (cxy * dx * dy + cxz * dx * dz + cyz * dy * dz)
        fixed += along_weight * dcd / length2 + whole_weight * trace

        for side in range(1 + mirrored):
            sign = 1.0 - 2.0 * side
            bx, by, bz = sign * wx + dx, sign * wy + dy, sign * wz + dz
            r = simd.sqrt(bx * bx + by * by + bz * bz)
            slope, bend, _ = derivatives(r, grid, weights, 2 + side * n_radial)
            inverse = 1.0 / r
            nx, ny, nz = bx * inverse, by * inverse, bz * inverse
            ncn = nx * (cxx * nx + 2.0 * (cxy * ny + cxz * nz))
            ncn += ny * (cyy * ny + 2.0 * cyz * nz) + czz * nz * nz
            total += bend * ncn + slope * inverse * (trace - ncn)
            slope = slope * sign
            gx += slope * nx
            gy += slope * ny
            gz += slope * nz
        accumulate(g, j, (gx, gy, gz))
        accumulate(g, i, (-gx, -gy, -gz))
    return total + fixed


@entry
def contract(
    u: Array,
    first: Array,
    second: Array,
    bond: Array,
    spread: Array,
    grid: Array,
    weights: Array,
    mirrored: int,
    gradient: Array,
    trace: Array,
) -> None:
    """Add sum_k b_k grad phi_k to ``gradient`` and sum_k b_k tr[C grad grad phi_k] to ``trace``.

    Functions and arguments as in ``stein``; ``weights`` = b holds the two quadratic forms, the
    Gaussians of |d0 + w| and, with ``mirrored = 1``, those of |d0 - w|.
    """
    batch, n = u.shape
    lanes = simd.LANES
    bonds = Bonds(first, second, bond, spread, grid)
    x, g = np.empty(n * lanes), np.empty(n * lanes)
    sums = np.empty(lanes)
    for start in range(0, batch, lanes):
        for lane in range(lanes):
            row = min(start + lane, batch - 1)
            for k in range(n):
                x[k * lanes + lane] = u[row, k]
                g[k * lanes + lane] = 0.0
        value = _contract_block(x, g, bonds, weights, mirrored)
        simd.store(sums, 0, value)
        for lane in range(min(lanes, batch - start)):
            trace[start + lane] += sums[lane]
            for k in range(n):
                gradient[start + lane, k] += g[k * lanes + lane]
