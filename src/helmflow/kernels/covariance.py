"""Covariances of pair vectors, gathered from the covariance of all displacements.

With ``d_a = x_a - x_i`` the 3 x 3 block is cov(d_a, d_b) = C_ab - C_ai - C_ib + C_ii, stored as
nine scalars, row by row.
"""

from numba import njit

from helmflow.kernels.simd import INLINE, INNER, item
from helmflow.kernels.vectors import dot


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
