"""Vector functions of a position in a periodic cube that have the cube's symmetry."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.simd import INLINE, INNER, LANES
from helmflow.kernels.vectors import ATOM, fetch, put, scale

ONE_BODY = 6
"""Vector functions T^m."""

DIRECTIONS = 2
"""Of which the first and the fourth also direct pair fields."""


class Directions(NamedTuple):
    """T^0 and T^3, and the diagonals and elements yz, zx, xy of their symmetric Jacobians."""

    vectors: np.ndarray
    diagonals: np.ndarray
    mixed: np.ndarray


@njit(**INNER)
def waves(x, n, box, sines, cosines):
    """sin kx and cos kx of every coordinate, k = 2 pi / box."""
    k = 2.0 * np.pi / box
    for at in range(3 * n * LANES):
        sines[at] = math.sin(k * x[at])
        cosines[at] = math.cos(k * x[at])


@njit(**INNER)
def directions(n, box, sines, cosines, out):
    """Fill ``out``, `Directions`, for every particle; T^3 follows T^0 in each array."""
    vectors, diagonals, mixed = out.vectors, out.diagonals, out.mixed
    k = 2.0 * np.pi / box
    for i in range(n):
        first, second = i * ATOM, (n + i) * ATOM
        s, c = fetch(sines, first), fetch(cosines, first)
        sums = (c[1] + c[2], c[0] + c[2], c[0] + c[1])
        put(vectors, first, s)
        put(diagonals, first, scale(k, c))
        put(mixed, first, scale(0.0, c))
        put(vectors, second, (s[0] * sums[0], s[1] * sums[1], s[2] * sums[2]))
        put(diagonals, second, scale(k, (c[0] * sums[0], c[1] * sums[1], c[2] * sums[2])))
        put(mixed, second, scale(-1.0 * k, (s[1] * s[2], s[2] * s[0], s[0] * s[1])))


@njit(**INLINE)
def one_body_vectors(s, c, k):
    """T^m and their divergences at sines s and cosines c of one position.

    Along x: sin, sin 2, sin 3, sin (cos y + cos z), sin cos y cos z, sin 2 (cos y + cos z), the
    other components by symmetry.
    """
    sum_x, sum_y, sum_z = c[1] + c[2], c[0] + c[2], c[0] + c[1]
    two = (2.0 * s[0] * c[0], 2.0 * s[1] * c[1], 2.0 * s[2] * c[2])
    cos_two = (2.0 * c[0] * c[0] - 1.0, 2.0 * c[1] * c[1] - 1.0, 2.0 * c[2] * c[2] - 1.0)
    three = (
        s[0] * (3.0 - 4.0 * s[0] * s[0]),
        s[1] * (3.0 - 4.0 * s[1] * s[1]),
        s[2] * (3.0 - 4.0 * s[2] * s[2]),
    )
    cos_three = (
        c[0] * (4.0 * c[0] * c[0] - 3.0)
        + c[1] * (4.0 * c[1] * c[1] - 3.0)
        + c[2] * (4.0 * c[2] * c[2] - 3.0)
    )
    crossed = c[0] * c[1] * c[2]
    vectors = (
        s,
        two,
        three,
        (s[0] * sum_x, s[1] * sum_y, s[2] * sum_z),
        (s[0] * c[1] * c[2], s[1] * c[0] * c[2], s[2] * c[0] * c[1]),
        (two[0] * sum_x, two[1] * sum_y, two[2] * sum_z),
    )
    divergences = (
        k * (c[0] + c[1] + c[2]),
        (2.0 * k) * (cos_two[0] + cos_two[1] + cos_two[2]),
        (3.0 * k) * cos_three,
        k * (c[0] * sum_x + c[1] * sum_y + c[2] * sum_z),
        (3.0 * k) * crossed,
        (2.0 * k) * (cos_two[0] * sum_x + cos_two[1] * sum_y + cos_two[2] * sum_z),
    )
    return vectors, divergences
