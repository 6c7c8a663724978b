"""Free energies of regions from weighted, correlated samples."""

import math

import numpy as np

from helmflow.errors import InputError
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.inputs import FloatArray, as_float_array


def _shares(log_w: FloatArray) -> FloatArray:
    w = np.exp(log_w - log_w.max())
    return w / w.mean()


def region_probability(inside: np.ndarray, log_w: np.ndarray) -> Estimate:
    """``P = sum w 1 / sum w`` with the error of a ratio of correlated averages.

    ``inside`` (chains, n) booleans, ``log_w`` (chains, n) log weights. The error is that of
    ``w (1 - P)/<w>``, whose autocorrelation the Gamma method sums. Raises InputError for arrays
    of other shapes.
    """
    share, member = _checked(inside, log_w)
    p = float((share * member).mean())
    return _of_series(share * (member - p), p, "probability", "")


def region_difference(first: np.ndarray, second: np.ndarray, log_w: np.ndarray) -> Estimate:
    """``f_2 - f_1 = ln(P_1/P_2)`` in kT of two regions, with the error of correlated samples.

    Regions are booleans (chains, n), ``log_w`` (chains, n). Raises InputError for other shapes
    and for a region that no sample has visited.
    """
    share, one = _checked(first, log_w)
    _, two = _checked(second, log_w)
    p1, p2 = float((share * one).mean()), float((share * two).mean())
    if min(p1, p2) <= 0.0:
        raise InputError("basins", "regions that samples have visited", "one without any")
    # d ln(P1/P2): both ratios share their denominator, which cancels
    return _of_series(share * (one / p1 - two / p2), math.log(p1 / p2), "histogram", "kT")


def _checked(inside: np.ndarray, log_w: np.ndarray) -> tuple[FloatArray, FloatArray]:
    weights = as_float_array("log_w", log_w, ndim=2)
    if inside.shape != weights.shape:
        raise InputError("inside", f"shape {weights.shape}", inside.shape)
    return _shares(weights), inside.astype(np.float64)


def _of_series(series: FloatArray, value: float, method: str, unit: str) -> Estimate:
    correlation = integrated_autocorrelation(series)
    stderr = correlation.error_of_mean(float(series.var()))
    diagnostics = {"tau_int": correlation.tau_int}
    return Estimate(value, stderr, correlation.n_eff, method, diagnostics, unit)
