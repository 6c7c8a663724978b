"""What transport fields around a sphere are made of: grids of Gaussians, and five directions."""

from typing import NamedTuple

from numba import njit

from helmflow.kernels.gaussians import Grid, first_gaussian, following, step_of
from helmflow.kernels.periodic_vectors import DIRECTIONS, ONE_BODY
from helmflow.kernels.simd import INLINE, INNER, LANES, load, splat, store
from helmflow.kernels.vectors import dot

SHAPES = 5
"""Directions W of a pair field."""

ENDS = 2 * SHAPES


class Basis(NamedTuple):
    """The box, the range of pair functions, and the grids of f, A and g."""

    box: float
    reach: float
    one_body: Grid
    solute: Grid
    pair: Grid


@njit(**INNER)
def count_features(basis):
    """Number of coefficients of a field."""
    return basis.one_body.size * ONE_BODY + DIRECTIONS * count_pair_features(basis)


@njit(**INNER)
def count_pair_features(basis):
    """Number of coefficients of the pair fields of one direction."""
    return basis.solute.size * basis.pair.size * ENDS


@njit(**INNER)
def gaussians(r, grid, values, slopes):
    """All Gaussians of a grid at ``r`` and their derivatives, one vector each."""
    step, gaussian = step_of(grid), first_gaussian(r, grid)
    for k in range(grid.size):
        t, psi, _ = gaussian
        store(values, k * LANES, psi)
        store(slopes, k * LANES, (-1.0 / grid.width) * (t * psi))
        gaussian = following(gaussian, step)


@njit(**INLINE)
def add_five(sums, at, a, g, b, h):
    """sums[k] += a[k] g + b[k] h for the five shapes."""
    store(sums, at, load(sums, at) + a[0] * g + b[0] * h)
    store(sums, at + LANES, load(sums, at + LANES) + a[1] * g + b[1] * h)
    store(sums, at + 2 * LANES, load(sums, at + 2 * LANES) + a[2] * g + b[2] * h)
    store(sums, at + 3 * LANES, load(sums, at + 3 * LANES) + a[3] * g + b[3] * h)
    store(sums, at + 4 * LANES, load(sums, at + 4 * LANES) + a[4] * g + b[4] * h)


@njit(**INLINE)
def add_five_plain(sums, at, a, g):
    """sums[k] += a[k] g for the five shapes."""
    store(sums, at, load(sums, at) + a[0] * g)
    store(sums, at + LANES, load(sums, at + LANES) + a[1] * g)
    store(sums, at + 2 * LANES, load(sums, at + 2 * LANES) + a[2] * g)
    store(sums, at + 3 * LANES, load(sums, at + 3 * LANES) + a[3] * g)
    store(sums, at + 4 * LANES, load(sums, at + 4 * LANES) + a[4] * g)


@njit(**INLINE)
def weighted_five(total, weights, at, g):
    """total[k] + weights[k] g for the five shapes."""
    return (
        total[0] + load(weights, at) * g,
        total[1] + load(weights, at + LANES) * g,
        total[2] + load(weights, at + 2 * LANES) * g,
        total[3] + load(weights, at + 3 * LANES) * g,
        total[4] + load(weights, at + 4 * LANES) * g,
    )


@njit(**INLINE)
def five_zeros():
    """Five zero vectors."""
    zero = splat(0.0)
    return zero, zero, zero, zero, zero


@njit(**INLINE)
def five_dot(a, b):
    """a . b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] + a[4] * b[4]


@njit(**INLINE)
def bent(unit, diagonal, mixed):
    """n.D n of a symmetric matrix D given by its diagonal and its elements yz, zx, xy."""
    straight = (
        unit[0] * unit[0] * diagonal[0]
        + unit[1] * unit[1] * diagonal[1]
        + unit[2] * unit[2] * diagonal[2]
    )
    crossed = (
        unit[1] * unit[2] * mixed[0] + unit[2] * unit[0] * mixed[1] + unit[0] * unit[1] * mixed[2]
    )
    return straight + 2.0 * crossed


@njit(**INLINE)
def pair_geometry(unit, inverse, radial, here, there):
    """What multiplies the pair functions in divergences.

    Along g': ``along``; along A': ``out``; along g at i and j: ``near``, ``far``. ``here`` and
    ``there`` are a direction T at i and j and (trace, n.D n) of its Jacobian D.
    """
    wave, slope = here
    other, other_slope = there
    a, b = dot(unit, wave), dot(unit, other)
    outward = dot(radial, unit)
    zero = splat(0.0)
    along = (splat(1.0), a, b, a, b)
    out = (outward, dot(radial, wave), dot(radial, other), outward * a, outward * b)
    wide = 2.0 * inverse
    near = (wide, slope[0], zero, wide * a + slope[1], wide * b)
    far = (-1.0 * wide, zero, other_slope[0], -1.0 * (wide * a), other_slope[1] - wide * b)
    return along, out, near, far


@njit(**INLINE)
def works(unit, wave, other, force):
    """Force along the five directions."""
    along = dot(unit, force)
    return (
        along,
        dot(wave, force),
        dot(other, force),
        along * dot(unit, wave),
        along * dot(unit, other),
    )


@njit(**INLINE)
def five_minus(a, b):
    """a - b."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4]
