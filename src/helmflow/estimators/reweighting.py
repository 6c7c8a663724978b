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


def reweight(observable: ArrayLike, log_w: ArrayLike, *, g: float = 1.0) -> Estimate:
    """Self-normalised average of an observable over weighted samples.

    ``<O> = sum w O / sum w`` with the delta-method error
    ``stderr^2 = g sum what^2 (O - <O>)^2 n / (n - 1)``, ``what = w / sum w``.
    ``observable`` and ``log_w`` are (n,), ``g`` the statistical inefficiency of the samples;
    the result is in the observable's own unit. Raises InputError for fewer than two samples,
    unequal lengths or NaN.
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
    return Estimate(
        value=mean,
        stderr=math.sqrt(variance),
        n_eff=ess / g,
        method="reweighting",
        diagnostics=known({"ess_fraction": ess / n}),
        unit="",
    )
