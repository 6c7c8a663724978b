"""A field that moves every coordinate for itself, between the ends of its own samples."""

from dataclasses import dataclass
from typing import Self

import numpy as np

Array = np.ndarray
INSIDE = 0.01
"""Part of the samples of a coordinate beyond each end of its field."""

NET_FORCE = 1e-3
"""Sum of all forces, relative to their size, above which something holds them in place."""


@dataclass(frozen=True)
class OneBodyField:
    """v = t (1 - (t / h)^2)^2 with t = x - centre, for |t| < h and each coordinate.

    It ends smoothly inside of the samples, so that neither walls nor the seam of an angle matter.
    """

    centre: Array
    half: Array

    @classmethod
    def of(cls, x: Array) -> Self:
        """For samples (n, ...); coordinates that are constant are not moved."""
        able = x[np.isfinite(x).reshape(len(x), -1).all(1)]
        low, centre, high = np.quantile(able, [INSIDE, 0.5, 1.0 - INSIDE], axis=0)
        return cls(centre, np.minimum(centre - low, high - centre))

    def __call__(self, x: Array, slopes: Array) -> tuple[Array, Array]:
        """v . grad u and div v (n,) of configurations (n, ...)."""
        moved = self.half > 0.0
        t = (x - self.centre)[:, moved]
        square = (t / self.half[moved]) ** 2
        rest = np.maximum(1.0 - square, 0.0)
        push = (t * rest**2 * slopes[:, moved]).sum(1)
        return push, (rest**2 - 4.0 * square * rest).sum(1)


def held_in_place(slopes: Array) -> Array:
    """Whether something outside acts on the particles: of gradients (n, N, 3), (n,).

    Always true of one particle, and of coordinates (n, d) that are no positions.
    """
    if slopes.ndim < 3 or slopes.shape[1] < 2:
        return np.ones(len(slopes), dtype=bool)
    size = np.sqrt((slopes**2).sum((1, 2)))
    return np.abs(slopes.sum(1)).max(1) > NET_FORCE * size
