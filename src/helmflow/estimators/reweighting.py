"""Averages over importance weights, in logarithms."""

import math

import numpy as np
from numpy.typing import ArrayLike

from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate, known
from helmflow.estimators.inputs import (
    FloatArray,
    as_float_array,
    as_inefficiency,
    as_log_weights,
)

MODELLED = 100.0
"""Effective samples below which the scatter of weights is known better from their logarithms."""


def log_sum_exp(a: FloatArray) -> float:
    """Logarithm of sum_i exp(a_i) of a 1-D array without overflow; -inf entries count nothing."""
    top = float(a.max())
    return top if math.isinf(top) else top + math.log(float(np.exp(a - top).sum()))


def log_mean_exp(a: FloatArray) -> float:
    """Logarithm of the mean of exp(a_i), a 1-D array."""
    return log_sum_exp(a) - math.log(a.size)


def kish_ess(log_w: ArrayLike) -> float:
    """Kish's effective number of samples, seen from the side the samples were drawn from.

    ``(sum w)^2 / sum w^2``, between 1 and n, for log weights (n,) known up to a constant.
    Blind to regions never sampled: compare `forward_ess`. Raises InputError for NaN or +inf.
    Source: L. Kish, Survey Sampling (1965).
    """
    values = as_log_weights("log_w", log_w)
    return math.exp(2.0 * log_sum_exp(values) - log_sum_exp(2.0 * values))


def fading(n_eff: float, whole: float) -> float:
    """1 up to ``whole`` effective samples, 0 from twice as many on: errors have no jumps."""
    return min(max(2.0 - n_eff / whole, 0.0), 1.0)


def upper_spread(log_w: FloatArray) -> float:
    """One standard deviation of log weights above their median, where the weight is.

    From the quantiles 0.5 and 0.95, or 0.99 if that is more: of a normal distribution just that.
    """
    middle, high, top = np.quantile(log_w[np.isfinite(log_w)], (0.5, 0.95, 0.99))
    return float(max((high - middle) / 1.645, (top - middle) / 2.326))


def reweight(observable: ArrayLike, log_w: ArrayLike, *, g: float = 1.0) -> Estimate:
    """Self-normalised average of an observable over weighted samples.

    ``<O> = sum w O / sum w`` with the delta-method error
    ``stderr^2 = g sum what^2 (O - <O>)^2 n / (n - 1)``, ``what = w / sum w``.
    ``observable`` and ``log_w`` are (n,), ``g`` the statistical inefficiency of the samples;
    the result is in the observable's own unit. Below 200 effective samples the largest weights may
    not have been seen: the error is then at least that of log-normal weights of spread s,
    ``g exp(s^2) (var(O) + c^2)/n`` up to ``var(O) + c^2``, c the covariance of O and ln w. Raises
    InputError for fewer than two samples, unequal lengths or NaN.
    """
    weights = as_log_weights("log_w", log_w)
    values = as_float_array("observable", observable)
    if values.shape != weights.shape or values.size < 2:
        raise InputError(
            "observable", f"one value per weight (n = {weights.size} >= 2)", values.size
        )
    g = as_inefficiency("g", g)
    w = np.exp(weights - log_sum_exp(weights))
    # A sample of weight zero contributes nothing, whatever its (possibly infinite) value.
    values = np.where(w > 0.0, values, 0.0)
    if not np.isfinite(values).all():
        raise InputError("observable", "finite values wherever the weight is not zero", "inf")
    mean = float(w @ values)
    n = values.size
    ess = kish_ess(weights)
    variance = g * float((w**2) @ (values - mean) ** 2) * n / (n - 1)
    share = fading(ess / g, MODELLED)
    if share > 0.0:
        variance = max(variance, share**2 * _of_log_normal(values, weights, g))
    return Estimate(
        value=mean,
        stderr=math.sqrt(variance),
        n_eff=ess / g,
        method="reweighting",
        diagnostics=known({"ess_fraction": ess / n}),
        unit="",
    )


def _of_log_normal(values: FloatArray, log_w: FloatArray, g: float) -> float:
    """Variance of a reweighted mean whose observable and ln w are jointly normal."""
    upper = log_w >= np.median(log_w[np.isfinite(log_w)])
    o, ln_w = values[upper], log_w[upper]
    spread = upper_spread(log_w) ** 2
    scatter = float(ln_w.var())
    slope = float(np.mean((o - o.mean()) * (ln_w - ln_w.mean()))) / scatter if scatter > 0 else 0.0
    size = float(values.var()) + (slope * spread) ** 2
    return size * min(1.0, g * math.exp(min(spread, 700.0)) / len(values))
