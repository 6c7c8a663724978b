"""Gaussians on an even grid: each follows from the one before it by two multiplications."""

from typing import NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.simd import INLINE, LOG2_E, exp2, select

FAR = 900.0
"""Squared distance from the first centre, in widths, beyond which every Gaussian is zero."""


class Grid(NamedTuple):
    """Gaussians at ``first + k spacing``, k < ``size``, of one ``width``."""

    first: float
    spacing: float
    width: float
    size: int


@njit(**INLINE)
def first_gaussian(r, grid):
    """Distance in widths, value, and the ratio to the next one, of a grid's first Gaussian."""
    t = (r - grid.first) / grid.width
    near = t * t < FAR
    t = select(near, t, 0.0)
    psi = select(near, exp2((-0.5 * LOG2_E) * (t * t)), 0.0)
    delta = grid.spacing / grid.width
    return t, psi, exp2((LOG2_E * delta) * t) * np.exp(-0.5 * delta * delta)


@njit(**INLINE)
def step_of(grid):
    """From one Gaussian to the next: the distance in widths, and what the ratio shrinks by."""
    delta = grid.spacing / grid.width
    return delta, np.exp(-delta * delta)


@njit(**INLINE)
def following(gaussian, step):
    """Distance, value and ratio of the next Gaussian from those of one."""
    t, psi, ratio = gaussian
    return t - step[0], psi * ratio, ratio * step[1]
