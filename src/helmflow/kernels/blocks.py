"""Blocks of eight configurations: layout, packing, and the pair vectors within a block.

A block stores coordinate ``c`` of atom ``i`` of lane ``l`` at ``x[(3 i + c) LANES + l]``, so that
one vector load fetches that coordinate of all eight configurations. The last block of a batch
repeats its last row to fill the lanes.
"""

import numpy as np
from numba import njit

from helmflow.kernels.simd import (
    INLINE,
    INNER,
    LANES,
    item,
    largest_lane,
    load,
    load_rows,
    nearest_integer,
    select,
    splat,
    store,
    store_rows,
    transpose,
)
from helmflow.kernels.vectors import ATOM, dot, fetch


@njit(**INNER)
def aligned(size):
    """Uninitialised float64 scratch on a cache-line boundary."""
    line = 64
    raw = np.empty(size + line // 8)
    behind = np.int64(raw.ctypes.data) & np.int64(line - 1)
    start = ((line - behind) & (line - 1)) >> 3
    return raw[start : start + size]


@njit(**INNER)
def clear(x):
    """Set whole vectors to zero."""
    for k in range(0, x.size, LANES):
        store(x, k, splat(0.0))


@njit(**INNER)
def stretch(x, factor):
    """Multiply whole vectors by a number."""
    for k in range(0, x.size, LANES):
        store(x, k, factor * load(x, k))


@njit(**INNER)
def pack(rows, first, count, x, lengths):
    """Interleave ``count`` rows of displacements; returns (extent, longest).

    ``lengths[i]`` becomes the largest finite displacement of atom ``i`` in any lane and
    ``longest`` the largest of those: bounds for every lane that is finite. The vector
    ``extent`` holds, per lane, the largest squared displacement of an atom; NaN or infinite
    where any coordinate is.
    """
    size = rows.shape[1]
    # Whole squares of eight rows and coordinates first, then what is left over.
    whole = size - size % LANES if count == LANES else 0
    for k in range(0, whole, LANES):
        block = load_rows(rows.reshape(-1), first * size + k, size)
        store_rows(x, k * LANES, LANES, transpose(block))
    for lane in range(LANES):
        row = rows[first + min(lane, count - 1)]
        for k in range(whole, size):
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


@njit(**INNER)
def unpack(g, first, count, rows):
    """Undo the interleaving of ``pack`` for ``count`` rows."""
    size = rows.shape[1]
    whole = size - size % LANES if count == LANES else 0
    for k in range(0, whole, LANES):
        block = transpose(load_rows(g, k * LANES, LANES))
        store_rows(rows.reshape(-1), first * size + k, size, block)
    for lane in range(count):
        row = rows[first + lane]
        for k in range(whole, size):
            row[k] = g[k * LANES + lane]


@njit(**INNER)
def spread(value, first, count, out):
    """Write the first ``count`` lanes of a vector to ``out[first : first + count]``."""
    lanes = np.empty(LANES)
    store(lanes, 0, value)
    for lane in range(count):
        out[first + lane] = lanes[lane]


@njit(**INNER)
def places(pairs):
    """Where in a block the far atom of every pair is stored."""
    return pairs.index * np.int64(ATOM)


@njit(**INNER)
def longest_list(pairs):
    """Largest number of pairs of one atom."""
    return np.max(pairs.offsets[1:] - pairs.offsets[:-1])


@njit(**INNER)
def candidates(pairs, i, cutoff, block, longest):
    """Pairs of atom ``i`` that can come within the cutoff; returns (near, far) counts.

    ``block`` has what `pack` returned as ``lengths`` and ``longest``. The near pairs, the first
    ``block.near[i]`` of the list, are those whose reference distance is likely to bring some
    lane inside: they are worth computing without a test. The indices of the others that the
    displacements allow, |u_i| + |u_j| away from the cutoff, go to ``block.far``; no other pair
    can be inside in any lane. ``near`` carries over from block to block.
    """
    near, far, lengths = block.near, block.far, block.lengths
    first = pairs.offsets[i]
    last = pairs.offsets[i + 1]
    # Capped: one configuration far out must not make its seven neighbours pay for all pairs.
    likely = cutoff + min(0.5 * longest, 0.1 * cutoff)
    k = first + near[i]
    while k < last and 0.0 < item(pairs.distances, k) <= likely:
        k += 1
    while k > first and item(pairs.distances, k - 1) > likely:
        k -= 1
    near[i] = k - first
    allowed = 0
    reach = cutoff + lengths[i]
    while k < last and item(pairs.distances, k) <= reach + longest:
        far[allowed] = k
        other = item(lengths, np.int64(item(pairs.index, k)))
        allowed += np.int64(item(pairs.distances, k) <= reach + other)
        k += 1
    return near[i], allowed


@njit(**INLINE)
def _nearest(d, box):
    """A vector rounded to its nearest image, unless ``box`` is None."""
    # Numba drops a branch on None for an argument, not for a field of one.
    if box is None:
        return d
    return (
        d[0] - box[0] * nearest_integer(d[0] / box[0]),
        d[1] - box[1] * nearest_integer(d[1] / box[1]),
        d[2] - box[2] * nearest_integer(d[2] / box[2]),
    )


@njit(**INLINE)
def pair_vector(x, start, there, pairs, k):
    """Vector of pair ``k``, backwards: from its far atom, stored at ``there``, to ``start``."""
    # This way round the loads merge into the subtractions.
    d = (
        start[0] - load(x, there) - item(pairs.vectors, 3 * k),
        start[1] - load(x, there + LANES) - item(pairs.vectors, 3 * k + 1),
        start[2] - load(x, there + 2 * LANES) - item(pairs.vectors, 3 * k + 2),
    )
    return _nearest(d, pairs.box)
