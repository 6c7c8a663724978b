"""Energies of Lennard-Jones particles around a repulsive sphere, for a batch of configurations."""

from typing import NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.blocks import aligned, clear, pack, spread, unpack
from helmflow.kernels.cache import entry
from helmflow.kernels.simd import (
    INNER,
    LANES,
    any_lane,
    load,
    nearest_integer,
    select,
    splat,
)
from helmflow.kernels.vectors import ATOM, accumulate, add, dot, fetch, scale, subtract

REACH2 = 2.0 ** (1 / 3)
"""(r / R)^2 where the repulsion of a sphere of radius R ends, at the minimum of Lennard-Jones."""


class Solvent(NamedTuple):
    """Cube of edge ``box`` with epsilon = sigma = 1, cut and shifted at ``cutoff`` <= box/2."""

    box: float
    cutoff: float
    shift: float


class Growth(NamedTuple):
    """Energies (B,), their derivatives by the radius (B,), and gradients (B, 3n) or (B, 0)."""

    energy: np.ndarray
    slope: np.ndarray
    gradient: np.ndarray


@njit(**INNER)
def nearest_image(d, box):
    """A vector moved to its nearest image in a cube."""
    return (
        d[0] - box * nearest_integer(d[0] / box),
        d[1] - box * nearest_integer(d[1] / box),
        d[2] - box * nearest_integer(d[2] / box),
    )


@njit(**INNER)
def _solvent(x, g, n, p, want_gradient):
    """Energy of all pairs of particles, nearest image; adds the gradient to ``g``."""
    energy = splat(0.0)
    cutoff2 = p.cutoff * p.cutoff
    for i in range(n):
        here = fetch(x, i * ATOM)
        total = (splat(0.0), splat(0.0), splat(0.0))
        for j in range(i + 1, n):
            d = nearest_image(subtract(here, fetch(x, j * ATOM)), p.box)
            r2 = dot(d, d)
            inside = r2 < cutoff2
            s2 = select(inside, 1.0 / r2, 0.0)
            s6 = s2 * s2 * s2
            energy += select(inside, s6 * (s6 - 1.0) - 0.25 * p.shift, 0.0)
            if want_gradient:
                f = scale((s6 * s2) * (24.0 - 48.0 * s6), d)
                total = add(total, f)
                accumulate(g, j * ATOM, scale(-1.0, f))
        if want_gradient:
            accumulate(g, i * ATOM, total)
    return 4.0 * energy


@njit(**INNER)
def _repulsion(r2, radius):
    """WCA energy, its derivative by the radius, and minus that by r over r; zero outside."""
    inside = r2 < REACH2 * radius * radius
    s2 = select(inside, radius * radius / r2, 0.0)
    s6 = s2 * s2 * s2
    energy = select(inside, 4.0 * s6 * (s6 - 1.0) + 1.0, 0.0)
    push = select(inside, (48.0 * s6 - 24.0) * s6, 0.0)
    return energy, push / radius, push / r2


@njit(**INNER)
def _solute(x, g, n, box, radius, want_gradient):
    """Energy of all particles with the sphere at the origin, every image, and its slope by R."""
    energy, slope = splat(0.0), splat(0.0)
    reach2 = REACH2 * radius * radius
    for i in range(n):
        d = nearest_image(fetch(x, i * ATOM), box)
        r2 = dot(d, d)
        e, by_radius, push = _repulsion(r2, radius)
        energy += e
        slope += by_radius
        total = scale(-1.0 * push, d)
        # Beyond half the box minus the reach a particle also feels the next image along an axis.
        for axis in range(3):
            c = d[0] if axis == 0 else d[1] if axis == 1 else d[2]
            other = select(c < 0.0, c + box, c - box)
            far2 = r2 - c * c + other * other
            if any_lane(far2 < reach2):
                e, by_radius, push = _repulsion(far2, radius)
                energy += e
                slope += by_radius
                total = add(
                    total,
                    (
                        -1.0 * push * (other if axis == 0 else d[0]),
                        -1.0 * push * (other if axis == 1 else d[1]),
                        -1.0 * push * (other if axis == 2 else d[2]),
                    ),
                )
        if want_gradient:
            accumulate(g, i * ATOM, total)
    return energy, slope


@entry
def energies(rows, radii, p, out):
    """Fill ``out``, a `Growth`, from ``rows`` (B, 3n).

    Row b (3n,) meets a sphere of radius ``radii[b]`` at the origin. Everything in units of the
    solvent's epsilon and sigma; particles in contact give infinity or NaN.
    """
    batch, size = rows.shape
    want_gradient = out.gradient.shape[1] > 0
    n = size // 3
    x, g = aligned(size * LANES), aligned(size * LANES)
    lengths, radius = np.empty(n), np.empty(LANES)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        pack(rows, first, count, x, lengths)
        clear(g)
        for lane in range(LANES):
            radius[lane] = radii[first + min(lane, count - 1)]
        value = _solvent(x, g, n, p, want_gradient)
        more, by_radius = _solute(x, g, n, p.box, load(radius, 0), want_gradient)
        spread(value + more, first, count, out.energy)
        spread(by_radius, first, count, out.slope)
        if want_gradient:
            unpack(g, first, count, out.gradient)
