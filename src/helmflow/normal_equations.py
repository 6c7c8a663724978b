"""Linear least squares: one solver that copes with columns that vanish or depend on each other.

Normal equations ``(A + diag(penalty)) c = b`` are scaled to a diagonal of one. A column whose norm
is below `LEAST_COLUMN` of the largest is dropped, and so are directions whose eigenvalue is below
`LEAST_EIGENVALUE` of the largest: their coefficients are zero, or the smallest that fit.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from helmflow.errors import InputError

Array = np.ndarray

LEAST_COLUMN = 1e-8
"""Of the largest norm; sums of squares are not known more precisely than the square of this."""

LEAST_EIGENVALUE = 1e-12
"""Of the largest in scaled equations; rounding makes some 1e-14 for a thousand columns."""


@dataclass(frozen=True)
class Solution:
    """Coefficients (n,) or (n, m), zero for dropped columns.

    ``rank``: directions that were solved for. ``residual``: what the equations, scaled, are off
    by, relative to their right-hand side.
    """

    coefficients: Array
    rank: int
    residual: float


def solve_normal_equations(matrix: Array, right: Array, penalty: Array | float = 0.0) -> Solution:
    """Solve ``(matrix + diag(penalty)) c = right`` for a symmetric matrix of sums of squares.

    matrix: (n, n), of no negative eigenvalue but for rounding; right: (n,) or (n, m); penalty:
    of every column (n,), or one for all. With ``penalty = ridge * diag(matrix)`` coefficients
    follow the columns' units. Never fails for finite numbers; raises InputError for others.
    """
    matrix, right = np.asarray(matrix, dtype=float), np.asarray(right, dtype=float)
    size = np.diag(matrix) + penalty
    if not (np.isfinite(matrix).all() and np.isfinite(right).all() and np.isfinite(size).all()):
        raise InputError("least squares", "finite numbers", "NaN or infinity")
    norm = np.sqrt(np.maximum(size, 0.0))
    columns = np.flatnonzero(norm > LEAST_COLUMN * norm.max(initial=0.0))
    coefficients = np.zeros_like(right)
    if not columns.size:
        return Solution(coefficients, 0, float(bool(right.any())))
    scale = norm[columns]
    scaled = matrix[np.ix_(columns, columns)] / scale / scale[:, None]
    np.fill_diagonal(scaled, 1.0)
    target = (right[columns].T / scale).T
    solution, rank = _solve(scaled, target)
    coefficients[columns] = (solution.T / scale).T
    off, length = np.linalg.norm(scaled @ solution - target), np.linalg.norm(target)
    return Solution(coefficients, rank, float(off / length) if length > 0.0 else 0.0)


def least_squares(columns: Array, target: Array) -> Solution:
    """Coefficients c of columns (samples, n) with the least ``|columns c - target|^2``."""
    columns, target = np.asarray(columns, dtype=float), np.asarray(target, dtype=float)
    return solve_normal_equations(columns.T @ columns, columns.T @ target)


def _solve(scaled: Array, target: Array) -> tuple[Array, int]:
    """Solution of equations with a unit diagonal, and their rank."""
    try:
        factor = cho_factor(scaled, lower=True, check_finite=False)
        # what each column adds to those before it
        if np.diag(factor[0]).min() ** 2 > LEAST_EIGENVALUE:
            return cho_solve(factor, target, check_finite=False), len(scaled)
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(scaled)
    solved = values > LEAST_EIGENVALUE * values[-1]
    along = (vectors[:, solved].T @ target).T / values[solved]
    return vectors[:, solved] @ along.T, int(solved.sum())
