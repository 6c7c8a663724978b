"""Thermodynamic integration over slopes that were recorded at a series of lambdas."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from helmflow.errors import InputError
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.inputs import FloatArray

_FEWEST = 4
"""Nodes of a cubic; with fewer the trapezoidal rule is left."""


def integrate_slopes(lambdas: FloatArray, slopes: Sequence[FloatArray]) -> Estimate:
    """f of the last state minus that of the first, ``sum_c int <du/dlambda_c> dlambda_c``, kT.

    ``lambdas`` (K, L), each of L staying or rising from state to state; ``slopes[k]`` (n_k, L) of
    samples in time order. A cubic spline through the means, over the part of the path where that
    lambda changes; its difference from a monotone interpolant, which is of the same order, is
    added to the statistical error in quadrature as that of the rule. Raises InputError for lambdas
    that fall, and for states without samples.
    Source: M. R. Shirts, D. L. Mobley, doi:10.1007/978-1-62703-017-5_11 (of the spline).
    """
    if any(len(s) < 4 for s in slopes):
        raise InputError("slopes", "at least 4 samples of every state", "fewer")
    steps = np.diff(lambdas, axis=0)
    if (steps < 0.0).any():
        raise InputError(
            "lambdas", "lambdas that stay or rise from state to state", "falling ones"
        )
    means = np.array([s.mean(0) for s in slopes])
    weights, quadrature = np.zeros_like(lambdas), 0.0
    for c in range(lambdas.shape[1]):
        moving = np.flatnonzero(steps[:, c] > 0.0)
        if not moving.size:
            continue
        nodes = np.append(moving, moving[-1] + 1)
        if moving[-1] - moving[0] + 1 != moving.size:  # rests on the way: each part is a line
            nodes = np.unique(np.concatenate([moving, moving + 1]))
            _trapezoid(weights[:, c], steps[:, c])
            continue
        x = lambdas[nodes, c]
        if len(nodes) < _FEWEST:
            _trapezoid(weights[:, c], steps[:, c])
            continue
        weights[nodes, c] = [
            float(CubicSpline(x, row).integrate(x[0], x[-1])) for row in np.eye(len(nodes))
        ]
        rival = float(PchipInterpolator(x, means[nodes, c]).integrate(x[0], x[-1]))
        quadrature += abs(rival - float(weights[nodes, c] @ means[nodes, c]))
    variance, n_eff = 0.0, math.inf
    for s, w in zip(slopes, weights, strict=True):
        if not w.any():
            continue
        series = s @ w
        found = integrated_autocorrelation(series)
        g = found.g if math.isfinite(found.g) else 1.0
        variance += g * float(series.var(ddof=1)) / len(series)
        n_eff = min(n_eff, len(series) / g)
    value = float((weights * means).sum())
    return Estimate(value, math.hypot(math.sqrt(variance), quadrature), n_eff, "ti")


def _trapezoid(weights: FloatArray, steps: FloatArray) -> None:
    weights[:-1] += 0.5 * steps
    weights[1:] += 0.5 * steps
