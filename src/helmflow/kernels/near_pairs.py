"""Pairs of points closer than a cutoff in any box, in time and memory linear in the points."""

import numba
import numpy as np

from helmflow.kernels.cache import entry
from helmflow.kernels.simd import INLINE

Array = np.ndarray
PER_POINT = 128
"""Room for pairs at first; more is made where a configuration has more."""


def near_pairs(x: Array, box: Array | None, cutoff: float) -> tuple[Array, Array, Array]:
    """Pairs i, j (p,), each once, and x_i - x_j (p, 3) to the nearest image, shorter than cutoff.

    x: (n, 3) finite; box: (3, 3) vectors in rows, or None. The cutoff must not exceed half of the
    smallest distance between opposite faces, below which the nearest image is unique.
    """
    wrap = box is not None
    low = x.min(0) if len(x) else np.zeros(3)
    span = box if box is not None else np.diag(np.ptp(x, axis=0) + cutoff)
    fractions = (x if wrap else x - low) @ np.linalg.inv(span)
    fractions -= np.floor(fractions)
    # More cells than points only cost memory, as where a few molecules are far apart.
    most = max(int(np.cbrt(len(x))), 1)
    cells = np.clip((face_distances(span) / cutoff).astype(np.int64), 1, most)
    a, b, c = np.minimum((fractions * cells).astype(np.int64), cells - 1).T
    place = (a * cells[1] + b) * cells[2] + c
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(cells.prod() + 1))
    fractions, room = fractions[order], PER_POINT * len(x)
    while True:
        first, second = np.empty((2, room), dtype=np.int32)
        vectors = np.empty((room, 3))
        n = _fill(fractions, span, cells, starts, cutoff**2, wrap, first, second, vectors)
        if n <= room:
            return order[first[:n]], order[second[:n]], vectors[:n]
        room = n


def face_distances(boxes: Array) -> Array:
    """Distances (..., 3) between opposite faces of boxes (..., 3, 3)."""
    return 1.0 / np.linalg.norm(np.linalg.inv(boxes), axis=-2)


@numba.njit(**INLINE)
def _beside(cell, n, wrap):
    """First neighbouring cell along an axis, and how many there are."""
    if wrap:
        return (cell - 1, 3) if n >= 3 else (0, n)
    low = max(cell - 1, 0)
    return low, min(cell + 1, n - 1) - low + 1


@numba.njit(**INLINE)
def _vector(fractions, i, j, box, wrap):
    """x_i - x_j, to the nearest image."""
    a = fractions[i, 0] - fractions[j, 0]
    b = fractions[i, 1] - fractions[j, 1]
    c = fractions[i, 2] - fractions[j, 2]
    if wrap:
        a, b, c = a - np.floor(a + 0.5), b - np.floor(b + 0.5), c - np.floor(c + 0.5)
    x = a * box[0, 0] + b * box[1, 0] + c * box[2, 0]
    y = a * box[0, 1] + b * box[1, 1] + c * box[2, 1]
    return x, y, a * box[0, 2] + b * box[1, 2] + c * box[2, 2]


@entry
def _fill(fractions, box, cells, starts, cutoff2, wrap, first, second, vectors):
    """Write pairs of points in the order of cells while there is room; returns how many there are.

    Points of cell k are starts[k] to starts[k + 1].
    """
    n = 0
    for cell in range(len(starts) - 1):
        a, na = _beside(cell // (cells[1] * cells[2]), cells[0], wrap)
        b, nb = _beside(cell // cells[2] % cells[1], cells[1], wrap)
        c, nc = _beside(cell % cells[2], cells[2], wrap)
        for i in range(starts[cell], starts[cell + 1]):
            for turn in range(na * nb * nc):
                other = (a + turn // (nb * nc)) % cells[0] * cells[1]
                other = (other + (b + turn // nc % nb) % cells[1]) * cells[2]
                other += (c + turn % nc) % cells[2]
                if other <= cell:
                    for j in range(starts[other], min(starts[other + 1], i)):
                        x, y, z = _vector(fractions, i, j, box, wrap)
                        if x * x + y * y + z * z < cutoff2:
                            if n < len(first):
                                first[n], second[n] = i, j
                                vectors[n, 0], vectors[n, 1], vectors[n, 2] = x, y, z
                            n += 1
    return n


@entry
def pair_fields(first, second, vectors, slopes, reaches, cutoffs, out):
    """Add v . grad u and div v to ``out`` (fields, 2), v_i = sum_j d_ij s(r) exp(-r^2 / 2 w^2).

    The switch s = (1 - r^2 / cutoff^2)^2 ends the field smoothly: one that were cut off where the
    nearest image changes would have a surface of which div v knows nothing.
    """
    for p in range(len(first)):
        x, y, z = vectors[p, 0], vectors[p, 1], vectors[p, 2]
        r2 = x * x + y * y + z * z
        i, j = first[p], second[p]
        push = x * (slopes[i, 0] - slopes[j, 0])
        push += y * (slopes[i, 1] - slopes[j, 1]) + z * (slopes[i, 2] - slopes[j, 2])
        for k in range(len(reaches)):
            rest = 1.0 - r2 / (cutoffs[k] * cutoffs[k])
            if rest > 0.0:
                g = np.exp(-0.5 * r2 / (reaches[k] * reaches[k]))
                bend = -0.5 * rest * rest / (reaches[k] * reaches[k])
                bend -= 2.0 * rest / (cutoffs[k] * cutoffs[k])
                out[k, 0] += g * rest * rest * push
                out[k, 1] += 2.0 * g * (3.0 * rest * rest + 2.0 * r2 * bend)
