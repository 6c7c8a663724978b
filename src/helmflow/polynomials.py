"""Polynomials of a path's parameter: how coefficients follow lambda from 0 to 1."""

import numpy as np
from numpy.polynomial.legendre import legvander

Array = np.ndarray


def legendre(lam: Array | float, size: int) -> Array:
    """Legendre polynomials P_0 ... P_(size - 1) of 2 lambda - 1, as last axis: (..., size)."""
    return legvander(np.atleast_1d(2.0 * np.asarray(lam) - 1.0), size - 1).reshape(
        *np.shape(lam), size
    )


def monomials(lam: Array | float, size: int) -> Array:
    """lambda^0 ... lambda^(size - 1), as last axis: (..., size)."""
    return np.asarray(lam, dtype=float)[..., None] ** np.arange(size)
