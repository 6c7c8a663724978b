"""Elementary functions of SIMD values: what a pair potential is written with."""

from typing import Any

import numpy as np
from numba import njit

from helmflow.kernels.simd import INLINE, LOG2_E, exp2, select, split_exponent, sqrt

__all__ = ["Vector", "Vectors", "exp", "log", "select", "sqrt"]

Vector = Any
"""In annotations: eight numbers handled as one."""

Vectors = tuple[Vector, Vector, Vector]

_SQRT2 = 1.4142135623730951

# ln 2 in two parts, the first so short that its product with any exponent is exact.
_LN2_HIGH = 0.693147180559663
_LN2_LOW = 2.8235290563031577e-13


@njit(**INLINE)
def exp(x):
    """Lane-wise e^x to a relative error of (1 + |x|) 2e-16: 0 below -707, infinity above 709."""
    y = LOG2_E * x
    tiny = y < -1021.0
    finite = y < 1023.0
    z = exp2(select(tiny, 0.0, select(finite, y, 0.0)))
    return select(tiny, 0.0, select(finite, z, np.inf))


@njit(**INLINE)
def log(x):
    """Lane-wise ln x to 3e-16; minus infinity at and below 2e-308, unchanged where not finite."""
    exponent, m = split_exponent(x)
    large = _SQRT2 < m
    m = select(large, 0.5 * m, m)
    exponent = select(large, exponent + 1.0, exponent)
    # ln m = 2 artanh f = 2 (f + f^3/3 + f^5/5 + ...) with |f| < 0.172.
    f = (m - 1.0) / (m + 1.0)
    s = f * f
    tail = 1 / 13 + s * (1 / 15 + s * (1 / 17 + s * (1 / 19 + s * (1 / 21))))
    tail = s * (1 / 3 + s * (1 / 5 + s * (1 / 7 + s * (1 / 9 + s * (1 / 11 + s * tail)))))
    value = exponent * _LN2_HIGH + (2.0 * (f + f * tail) + exponent * _LN2_LOW)
    return select(x < np.inf, select(x < 2.3e-308, -np.inf, value), x)
