"""Stein functions of radial pair potentials, eight configurations at a time."""

import numba
import numpy as np

from helmflow.kernels import simd

SIMD_DIGEST = "3753f7f9f0c4"
LOG2_E = 1.4426950408889634
FAR = 900.0
"""Squared distance from the first centre, in widths, beyond which every Gaussian is zero."""

Array = np.ndarray


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_gaussians(t, slope, bend, delta, fade, shrink, n_radial, out):
    """One bond's part of every Gaussian of an even grid; t is the distance to the first."""
    near = t * t < FAR
    t = simd.select(near, t, 0.0)
    # Gaussians on an even grid follow from one another by two multiplications.
    psi = simd.select(near, simd.exp2((-0.5 * LOG2_E) * (t * t)), 0.0)
    ratio = simd.exp2((LOG2_E * delta) * t) * fade
    for k in range(n_radial):
        o = (k + 2) * simd.LANES
        value = psi * (t * slope + (t * t - 1.0) * bend)
        simd.store(out, o, simd.load(out, o) - value)
        psi = psi * ratio
        ratio = ratio * shrink
        t = t - delta


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _block(x, a, first, second, bond, spread, grid, sign, out):
    """One block; ``out`` holds n_radial + 2 vectors."""
    width, n_radial = grid[1], np.int64(grid[3])
    lanes = simd.LANES
    delta = grid[2] / width
    fade, shrink = np.exp(-0.5 * delta * delta), np.exp(-delta * delta)
    inverse_width = 1.0 / width
    for k in range(n_radial + 2):
        simd.store(out, k * lanes, simd.splat(0.0))
    for pair in range(len(first)):
        i = np.int64(simd.item(first, pair)) * (3 * lanes)
        j = np.int64(simd.item(second, pair)) * (3 * lanes)
        dx, dy, dz = (
            simd.item(bond, 3 * pair),
            simd.item(bond, 3 * pair + 1),
            simd.item(bond, 3 * pair + 2),
        )
        cxx, cyy, czz = (
            simd.item(spread, 6 * pair),
            simd.item(spread, 6 * pair + 1),
            simd.item(spread, 6 * pair + 2),
        )
        cxy, cxz, cyz = (
            simd.item(spread, 6 * pair + 3),
            simd.item(spread, 6 * pair + 4),
            simd.item(spread, 6 * pair + 5),
        )
        wx = simd.load(x, j) - simd.load(x, i)
        wy = simd.load(x, j + lanes) - simd.load(x, i + lanes)
        wz = simd.load(x, j + 2 * lanes) - simd.load(x, i + 2 * lanes)
        ax = simd.load(a, j) - simd.load(a, i)
        ay = simd.load(a, j + lanes) - simd.load(a, i + lanes)
        az = simd.load(a, j + 2 * lanes) - simd.load(a, i + 2 * lanes)
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
        _add_gaussians(t, slope, bend, delta, fade, shrink, n_radial, out)


@numba.njit(cache=True, nogil=True, error_model="numpy")
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
    pairs, w = u_second - u_first, psi_k a Gaussian at grid[0] + k grid[2] of width grid[1].

    u, direction: (B, 3 n). bond: (3 P) reference vectors d0, n0 their directions. spread: (6 P)
    covariance of w (xx yy zz xy xz yz). grid = [centre, width, spacing, number of Gaussians].
    """
    batch, n = u.shape
    lanes = simd.LANES
    x, a = np.empty(n * lanes), np.empty(n * lanes)
    sums = np.empty((np.int64(grid[3]) + 2) * lanes)
    for start in range(0, batch, lanes):
        for lane in range(lanes):
            row = min(start + lane, batch - 1)
            for k in range(n):
                x[k * lanes + lane] = u[row, k]
                a[k * lanes + lane] = direction[row, k]
        _block(x, a, first, second, bond, spread, grid, sign, sums)
        for lane in range(min(lanes, batch - start)):
            for k in range(out.shape[0]):
                out[k, start + lane] = sums[k * lanes + lane]
