"""Transport fields of particles around a sphere: values, divergences, Stein functions.

All fields are combinations of functions on even grids of Gaussians,

    one-body    v_i += f_k(s_i) T^m(x_i)                    m < 6
    pairs       v_i += A_a(s_i) g_b(r_ij) W                 W = n, T_i, T_j, n (n.T_i), n (n.T_j)
                v_j += A_a(s_i) g_b(r_ij) W

with s = |x| - R the distance from the sphere's surface, n = (x_i - x_j)/r, T^m periodic vectors
of the cube's symmetry and T either T^0 = (sin kx, sin ky, sin kz), k = 2 pi / box, or T^3. The
order of the coefficients is one-body (k, m), then for each T pairs (a, b, where, W) with
where = 0 for i, 1 for j. (W = n comes twice; the ridge of the fit shares it out.)
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from helmflow.kernels.blocks import aligned, clear, pack, spread, unpack
from helmflow.kernels.cache import entry
from helmflow.kernels.gaussians import first_gaussian, following, step_of
from helmflow.kernels.periodic_vectors import (
    DIRECTIONS,
    ONE_BODY,
    Directions,
    directions,
    one_body_vectors,
    waves,
)
from helmflow.kernels.simd import (
    INLINE,
    INNER,
    LANES,
    any_lane,
    load,
    select,
    splat,
    sqrt,
    store,
)
from helmflow.kernels.solvation import nearest_image
from helmflow.kernels.solvation_basis import (
    ENDS,
    SHAPES,
    add_five,
    add_five_plain,
    bent,
    count_features,
    count_pair_features,
    five_dot,
    five_minus,
    five_zeros,
    gaussians,
    pair_geometry,
    weighted_five,
    works,
)
from helmflow.kernels.vectors import ATOM, accumulate, add, dot, fetch, put, scale, subtract


class Block(NamedTuple):
    """Eight configurations: per particle, per Gaussian of one body, of the solute, of pairs."""

    x: np.ndarray
    v: np.ndarray
    """Gradients for Stein functions, velocities for fields."""
    s: np.ndarray
    """Distances from the surface."""
    radials: np.ndarray
    sines: np.ndarray
    cosines: np.ndarray
    directions: Directions
    lengths: np.ndarray
    f: np.ndarray
    df: np.ndarray
    window: np.ndarray
    bend: np.ndarray
    sums: np.ndarray
    """Sums over neighbours for Stein functions, coefficients of one centre for fields."""


@njit(**INNER)
def _scratch(size, basis):
    n_one, n_solute = basis.one_body.size * LANES, basis.solute.size * LANES
    return Block(
        aligned(size * LANES),
        aligned(size * LANES),
        aligned(size // 3 * LANES),
        aligned(size * LANES),
        aligned(size * LANES),
        aligned(size * LANES),
        Directions(
            aligned(DIRECTIONS * size * LANES),
            aligned(DIRECTIONS * size * LANES),
            aligned(DIRECTIONS * size * LANES),
        ),
        np.empty(size // 3),
        aligned(n_one),
        aligned(n_one),
        aligned(n_solute),
        aligned(n_solute),
        aligned(basis.pair.size * 3 * SHAPES * LANES),
    )


@njit(**INNER)
def _surroundings(block, box, radius):
    """Distances from the surface, unit vectors of nearest images, and periodic vectors."""
    n = block.lengths.size
    for i in range(n):
        d = nearest_image(fetch(block.x, i * ATOM), box)
        rho = sqrt(dot(d, d))
        store(block.s, i * LANES, rho - radius)
        put(block.radials, i * ATOM, scale(1.0 / rho, d))
    waves(block.x, n, box, block.sines, block.cosines)
    directions(n, box, block.sines, block.cosines, block.directions)


@njit(**INNER)
def _one_body_stein(block, basis, out):
    """Stein functions of the one-body fields: f' rho.T + f (div T - T.grad u)."""
    wave_number = 2.0 * np.pi / basis.box
    f, df = block.f, block.df
    for i in range(block.lengths.size):
        gaussians(load(block.s, i * LANES), basis.one_body, f, df)
        sine, cosine = fetch(block.sines, i * ATOM), fetch(block.cosines, i * ATOM)
        radial, force = fetch(block.radials, i * ATOM), fetch(block.v, i * ATOM)
        vectors, divergences = one_body_vectors(sine, cosine, wave_number)
        for k in range(basis.one_body.size):
            value, slope = load(f, k * LANES), load(df, k * LANES)
            for m in range(ONE_BODY):
                at = (k * ONE_BODY + m) * LANES
                v = vectors[m]
                more = slope * dot(radial, v) + value * (divergences[m] - dot(v, force))
                store(out, at, load(out, at) + more)


@njit(**INLINE)
def _at_the_centre(here, t):
    """The direction T at a particle, and its Jacobian: diagonal, other elements, trace."""
    diagonal = fetch(t.diagonals, here)
    trace = diagonal[0] + diagonal[1] + diagonal[2]
    return fetch(t.vectors, here), (diagonal, fetch(t.mixed, here), trace)


@njit(**INLINE)
def _at_the_other(there, unit, t):
    """The direction T at the other particle, and (trace, n.D n) of its Jacobian D."""
    turned = fetch(t.diagonals, there)
    straight = bent(unit, turned, fetch(t.mixed, there))
    return fetch(t.vectors, there), (turned[0] + turned[1] + turned[2], straight)


@njit(**INNER)
def _pair_sums(block, i, basis, base):
    """Sums over the neighbours of one centre, for every pair function: near, far, out.

    ``base`` is where the direction's values begin in the arrays of ``block.directions``.
    """
    x, g, sums = block.x, block.v, block.sums
    clear(sums)
    here, radial = fetch(x, i * ATOM), fetch(block.radials, i * ATOM)
    wave, (diagonal, off, trace) = _at_the_centre(base + i * ATOM, block.directions)
    force = fetch(g, i * ATOM)
    grid, step = basis.pair, step_of(basis.pair)
    for j in range(block.lengths.size):
        if j == i:
            continue
        d = nearest_image(subtract(here, fetch(x, j * ATOM)), basis.box)
        r2 = dot(d, d)
        inside = r2 < basis.reach * basis.reach
        if not any_lane(inside):
            continue
        inverse = 1.0 / sqrt(r2)
        unit = scale(inverse, d)
        slope = (trace, bent(unit, diagonal, off))
        other, other_slope = _at_the_other(base + j * ATOM, unit, block.directions)
        along, out, near, far = pair_geometry(
            unit, inverse, radial, (wave, slope), (other, other_slope)
        )
        near = five_minus(near, works(unit, wave, other, force))
        far = five_minus(far, works(unit, wave, other, fetch(g, j * ATOM)))
        t, psi, ratio = first_gaussian(r2 * inverse, grid)
        psi = select(inside, psi, 0.0)
        for b in range(grid.size):
            at = b * 3 * SHAPES * LANES
            bend = (-1.0 / grid.width) * (t * psi)
            add_five(sums, at, near, psi, along, bend)
            add_five(sums, at + SHAPES * LANES, far, psi, along, -1.0 * bend)
            add_five_plain(sums, at + ENDS * LANES, out, psi)
            t, psi, ratio = following((t, psi, ratio), step)


@njit(**INNER)
def _add_windowed(basis, window, bend, sums, features, at):
    """Adds one centre's sums times every window A_a to the features from ``at`` on."""
    for a in range(basis.solute.size):
        value, slope = load(window, a * LANES), load(bend, a * LANES)
        for b in range(basis.pair.size):
            row = b * 3 * SHAPES * LANES
            for w in range(ENDS):
                more = value * load(sums, row + w * LANES)
                if w < SHAPES:
                    more += slope * load(sums, row + (ENDS + w) * LANES)
                store(features, at, load(features, at) + more)
                at += LANES


@entry
def stein(rows, gradient, radii, basis, out):
    """Fill out[k, b] with div v_k - v_k . grad u of every field v_k.

    rows, gradient: (B, 3n) positions and gradients of the reduced potential; radii (B,). The mean
    under exp(-u) is zero.
    """
    batch, size = rows.shape
    n = size // 3
    block, radius = _scratch(size, basis), np.empty(LANES)
    n_features = count_features(basis)
    features = aligned(n_features * LANES)
    n_pair = count_pair_features(basis)
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        pack(rows, first, count, block.x, block.lengths)
        pack(gradient, first, count, block.v, block.lengths)
        for lane in range(LANES):
            radius[lane] = radii[first + min(lane, count - 1)]
        _surroundings(block, basis.box, load(radius, 0))
        clear(features)
        _one_body_stein(block, basis, features)
        for q in range(DIRECTIONS):
            base, start = q * n * ATOM, basis.one_body.size * ONE_BODY + q * n_pair
            for i in range(n):
                _pair_sums(block, i, basis, base)
                gaussians(load(block.s, i * LANES), basis.solute, block.window, block.bend)
                _add_windowed(basis, block.window, block.bend, block.sums, features, start * LANES)
        for lane in range(count):
            for k in range(n_features):
                out[k, first + lane] = features[k * LANES + lane]


@njit(**INNER)
def _one_body_field(block, basis, weights):
    """Sets ``block.v`` to the one-body field; returns its divergence."""
    total = splat(0.0)
    wave_number = 2.0 * np.pi / basis.box
    f, df = block.f, block.df
    for i in range(block.lengths.size):
        gaussians(load(block.s, i * LANES), basis.one_body, f, df)
        sine, cosine = fetch(block.sines, i * ATOM), fetch(block.cosines, i * ATOM)
        radial = fetch(block.radials, i * ATOM)
        vectors, divergences = one_body_vectors(sine, cosine, wave_number)
        velocity = (splat(0.0), splat(0.0), splat(0.0))
        for m in range(ONE_BODY):
            value, slope = splat(0.0), splat(0.0)
            for k in range(basis.one_body.size):
                value += weights[k * ONE_BODY + m] * load(f, k * LANES)
                slope += weights[k * ONE_BODY + m] * load(df, k * LANES)
            velocity = add(velocity, scale(value, vectors[m]))
            total += value * divergences[m] + slope * dot(radial, vectors[m])
        put(block.v, i * ATOM, velocity)
    return total


@njit(**INNER)
def _centre_weights(block, basis, weights):
    """Coefficients of the pair functions for one centre: near, far, and near with A'."""
    window, bend, h = block.window, block.bend, block.sums
    for b in range(basis.pair.size):
        for w in range(ENDS):
            value, slope = splat(0.0), splat(0.0)
            for a in range(basis.solute.size):
                c = weights[(a * basis.pair.size + b) * ENDS + w]
                value += c * load(window, a * LANES)
                slope += c * load(bend, a * LANES)
            store(h, (b * 3 * SHAPES + w) * LANES, value)
            if w < SHAPES:
                store(h, (b * 3 * SHAPES + ENDS + w) * LANES, slope)


@njit(**INNER)
def _pair_field(block, i, basis, base):
    """Adds one centre's pair field to ``block.v``; returns its divergence."""
    x, v, h = block.x, block.v, block.sums
    here, radial = fetch(x, i * ATOM), fetch(block.radials, i * ATOM)
    wave, (diagonal, off, trace) = _at_the_centre(base + i * ATOM, block.directions)
    total = splat(0.0)
    mine = (splat(0.0), splat(0.0), splat(0.0))
    grid, step = basis.pair, step_of(basis.pair)
    for j in range(block.lengths.size):
        if j == i:
            continue
        d = nearest_image(subtract(here, fetch(x, j * ATOM)), basis.box)
        r2 = dot(d, d)
        inside = r2 < basis.reach * basis.reach
        if not any_lane(inside):
            continue
        inverse = 1.0 / sqrt(r2)
        unit = scale(inverse, d)
        slope = (trace, bent(unit, diagonal, off))
        other, other_slope = _at_the_other(base + j * ATOM, unit, block.directions)
        t, psi, ratio = first_gaussian(r2 * inverse, grid)
        psi = select(inside, psi, 0.0)
        at_i, at_j = five_zeros(), five_zeros()
        bent_i, bent_j, windowed = five_zeros(), five_zeros(), five_zeros()
        for b in range(grid.size):
            at = b * 3 * SHAPES * LANES
            bend = (-1.0 / grid.width) * (t * psi)
            at_i = weighted_five(at_i, h, at, psi)
            bent_i = weighted_five(bent_i, h, at, bend)
            at_j = weighted_five(at_j, h, at + SHAPES * LANES, psi)
            bent_j = weighted_five(bent_j, h, at + SHAPES * LANES, bend)
            windowed = weighted_five(windowed, h, at + ENDS * LANES, psi)
            t, psi, ratio = following((t, psi, ratio), step)
        along, out, near, far = pair_geometry(
            unit, inverse, radial, (wave, slope), (other, other_slope)
        )
        total += five_dot(at_i, near) + five_dot(at_j, far) + five_dot(windowed, out)
        total += five_dot(five_minus(bent_i, bent_j), along)
        a, b_ = along[1], along[2]
        mine = add(mine, _combine(at_i, unit, wave, other, a, b_))
        accumulate(v, j * ATOM, _combine(at_j, unit, wave, other, a, b_))
    accumulate(v, i * ATOM, mine)
    return total


@njit(**INLINE)
def _combine(w, unit, wave, other, a, b):
    """The vector sum of the five directions with weights w."""
    along = w[0] + w[3] * a + w[4] * b
    return add(scale(along, unit), add(scale(w[1], wave), scale(w[2], other)))


@entry
def field(rows, weights, radius, basis, velocity, divergence):
    """Velocities (B, 3n) and divergences (B,) of the field with coefficients ``weights``."""
    batch, size = rows.shape
    n = size // 3
    block = _scratch(size, basis)
    n_pair = count_pair_features(basis)
    pair_weights = weights[basis.one_body.size * ONE_BODY :]
    for first in range(0, batch, LANES):
        count = min(LANES, batch - first)
        pack(rows, first, count, block.x, block.lengths)
        _surroundings(block, basis.box, splat(radius))
        total = _one_body_field(block, basis, weights)
        for q in range(DIRECTIONS):
            base, of_direction = q * n * ATOM, pair_weights[q * n_pair :]
            for i in range(n):
                gaussians(load(block.s, i * LANES), basis.solute, block.window, block.bend)
                _centre_weights(block, basis, of_direction)
                total += _pair_field(block, i, basis, base)
        unpack(block.v, first, count, velocity)
        spread(total, first, count, divergence)
