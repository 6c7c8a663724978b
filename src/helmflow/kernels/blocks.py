"""Blocks of eight configurations: layout, packing, and the pair vectors within a block.

A block stores coordinate ``c`` of atom ``i`` of lane ``l`` at ``x[(3 i + c) LANES + l]``, so that
one vector load fetches that coordinate of all eight configurations. The last block of a batch
repeats its last row to fill the lanes.
"""

import numpy as np
from numba import njit

from helmflow.kernels.simd import (
    LANES,
    item,
    largest_lane,
    load,
    nearest_integer,
    select,
    splat,
    store,
)
from helmflow.kernels.vectors import ATOM, INLINE, dot, fetch

JIT = {"cache": True, "nogil": True, "error_model": "numpy", "boundscheck": False}


@njit(**JIT)
def aligned(size):
    """Uninitialised float64 scratch on a cache-line boundary."""
    line = 64
    raw = np.empty(size + line // 8)
    behind = np.int64(raw.ctypes.data) & np.int64(line - 1)
    start = ((line - behind) & (line - 1)) >> 3
    return raw[start : start + size]


@njit(**JIT)
def clear(x):
    """Set whole vectors to zero."""
    for k in range(0, x.size, LANES):
        store(x, k, splat(0.0))


@njit(**JIT)
def pack(rows, first, count, x, lengths):
    """Interleave ``count`` rows of displacements; returns (extent, longest).

    ``lengths[i]`` becomes the largest finite displacement of atom ``i`` in any lane and
    ``longest`` the largest of those: bounds for every lane that is finite. The vector
    ``extent`` holds, per lane, the largest squared displacement of an atom; NaN or infinite
    where any coordinate is.
    """
    size = rows.shape[1]
    for lane in range(LANES):
        row = rows[first + min(lane, count - 1)]
        for k in range(size):
            x[k * LANES + lane] = row[k]
    total = splat(0.0)
    extent = splat(0.0)
    for i in range(size // 3):
        u = fetch(x, i * ATOM)
        squared = dot(u, u)
        total += squared
        squared = select(squared < np.inf, squared, 0.0)
        extent = select(extent < squared, squared, extent)
        lengths[i] = np.sqrt(largest_lane(squared))
    # Comparisons lose NaN, sums keep it.
    return select(total < np.inf, extent, total), np.sqrt(largest_lane(extent))


@njit(**JIT)
def unpack(g, first, count, rows):
    """Undo the interleaving of ``pack`` for ``count`` rows."""
    size = rows.shape[1]
    for lane in range(count):
        row = rows[first + lane]
        for k in range(size):
            row[k] = g[k * LANES + lane]


@njit(**JIT)
def spread(value, first, count, out):
    """Write the first ``count`` lanes of a vector to ``out[first : first + count]``."""
    lanes = np.empty(LANES)
    store(lanes, 0, value)
    for lane in range(count):
        out[first + lane] = lanes[lane]


@njit(**INLINE)
def end(pairs, k):
    """Where in a block the atom at the end of pair ``k`` is stored."""
    return np.int64(item(pairs.index, k)) * ATOM


@njit(**INLINE)
def pair_vector(x, start, there, pairs, k, box):
    """Vector of pair ``k`` from the displacement ``start`` to the atom stored at ``there``.

    ``box`` is None, or three lengths: then the vector is rounded to its nearest image.
    """
    d0 = load(x, there) - start[0] + item(pairs.vectors, 3 * k)
    d1 = load(x, there + LANES) - start[1] + item(pairs.vectors, 3 * k + 1)
    d2 = load(x, there + 2 * LANES) - start[2] + item(pairs.vectors, 3 * k + 2)
    if box is not None:
        d0 -= box[0] * nearest_integer(d0 / box[0])
        d1 -= box[1] * nearest_integer(d1 / box[1])
        d2 -= box[2] * nearest_integer(d2 / box[2])
    return d0, d1, d2
