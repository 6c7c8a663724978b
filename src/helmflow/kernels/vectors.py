"""Arithmetic of 3-vectors and symmetric 3 x 3 matrices whose components are SIMD values.

A vector is a tuple (x, y, z), a symmetric matrix (xx, xy, xz, yy, yz, zz). Every function is
inlined by the compiler, so the tuples cost nothing.

Covariances of pair vectors are gathered from the covariance of all displacements: with
``d_a = x_a - x_i`` the 3 x 3 block is cov(d_a, d_b) = C_ab - C_ai - C_ib + C_ii, stored as nine
scalars, row by row.
"""

from numba import njit

from helmflow.kernels.simd import INLINE, INNER, LANES, item, load, store

ATOM = 3 * LANES
"""Numbers per atom in a block of ``LANES`` configurations."""


@njit(**INLINE)
def fetch(x, at):
    """The vector stored at ``x[at : at + ATOM]``."""
    return load(x, at), load(x, at + LANES), load(x, at + 2 * LANES)


@njit(**INLINE)
def put(x, at, v):
    """Store a vector at ``x[at : at + ATOM]``."""
    store(x, at, v[0])
    store(x, at + LANES, v[1])
    store(x, at + 2 * LANES, v[2])


@njit(**INLINE)
def accumulate(x, at, v):
    """Add a vector to the one stored at ``x[at : at + ATOM]``."""
    put(x, at, add(fetch(x, at), v))


@njit(**INLINE)
def add(a, b):
    """a + b."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@njit(**INLINE)
def subtract(a, b):
    """a - b."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@njit(**INLINE)
def scale(s, a):
    """s a."""
    return s * a[0], s * a[1], s * a[2]


@njit(**INLINE)
def dot(a, b):
    """a . b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit(**INLINE)
def outer(a, b):
    """a b, for parallel vectors a and b."""
    return a[0] * b[0], a[0] * b[1], a[0] * b[2], a[1] * b[1], a[1] * b[2], a[2] * b[2]


@njit(**INLINE)
def add_symmetric(q, r):
    """q + r, for symmetric matrices."""
    return q[0] + r[0], q[1] + r[1], q[2] + r[2], q[3] + r[3], q[4] + r[4], q[5] + r[5]


@njit(**INLINE)
def fetch_symmetric(x, at):
    """The symmetric matrix stored at ``x[at : at + 2 ATOM]``."""
    a = fetch(x, at)
    b = fetch(x, at + ATOM)
    return a[0], a[1], a[2], b[0], b[1], b[2]


@njit(**INLINE)
def times(q, a):
    """q a, for a symmetric matrix q."""
    return (
        q[0] * a[0] + q[1] * a[1] + q[2] * a[2],
        q[1] * a[0] + q[3] * a[1] + q[4] * a[2],
        q[2] * a[0] + q[4] * a[1] + q[5] * a[2],
    )


@njit(**INLINE)
def contract(q, r):
    """q : r, the sum of products of all nine elements of two symmetric matrices."""
    diagonal = q[0] * r[0] + q[3] * r[3] + q[5] * r[5]
    return diagonal + 2.0 * (q[1] * r[1] + q[2] * r[2] + q[4] * r[4])


@njit(**INNER)
def relative(c, atoms, out, at):
    """Write cov(x_a - x_i, x_b - x_i), atoms = (i, a, b), to ``out[at : at + 9]``."""
    i, a, b = atoms
    for row in range(3):
        for column in range(3):
            out[at + 3 * row + column] = (
                c[3 * a + row, 3 * b + column]
                - c[3 * a + row, 3 * i + column]
                - c[3 * i + row, 3 * b + column]
                + c[3 * i + row, 3 * i + column]
            )


@njit(**INLINE)
def apply(block, at, v):
    """Product of the scalar matrix at ``block[at : at + 9]`` with a vector."""
    return (
        item(block, at) * v[0] + item(block, at + 1) * v[1] + item(block, at + 2) * v[2],
        item(block, at + 3) * v[0] + item(block, at + 4) * v[1] + item(block, at + 5) * v[2],
        item(block, at + 6) * v[0] + item(block, at + 7) * v[1] + item(block, at + 8) * v[2],
    )


@njit(**INLINE)
def trace(block, at):
    """Trace of the scalar matrix at ``block[at : at + 9]``."""
    return item(block, at) + item(block, at + 4) + item(block, at + 8)


@njit(**INLINE)
def contracted(block, at, q):
    """Sum of products of the scalar matrix, symmetric here, with a symmetric matrix ``q``."""
    diagonal = item(block, at) * q[0] + item(block, at + 4) * q[3] + item(block, at + 8) * q[5]
    others = item(block, at + 1) * q[1] + item(block, at + 2) * q[2] + item(block, at + 5) * q[4]
    return diagonal + 2.0 * others


@njit(**INLINE)
def quadratic(block, at, v):
    """v . (matrix v)."""
    return dot(v, apply(block, at, v))
