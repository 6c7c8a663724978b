"""Differences of averages over the same samples under two sets of weights."""

import math

import numpy as np
from numpy.typing import ArrayLike

from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate, known
from helmflow.estimators.inputs import as_float_array, as_inefficiency, as_log_weights
from helmflow.estimators.reweighting import kish_ess, log_sum_exp


def reweighted_difference(
    observable_a: ArrayLike,
    log_w_a: ArrayLike,
    observable_b: ArrayLike,
    log_w_b: ArrayLike,
    *,
    g: float = 1.0,
) -> Estimate:
    """``<O>_b - <O>_a`` from two sets of weights (n,) of the same n samples, in the unit of O.

        <O>_s = sum_i w_si O_si / sum_i w_si
        stderr^2 = g n/(n - 1) sum_i [what_bi (O_bi - <O>_b) - what_ai (O_ai - <O>_a)]^2

    The samples may have been mapped differently for a and b, so the observables may differ too;
    what fluctuates together cancels. ``g`` is the statistical inefficiency of the samples. Raises
    InputError for unequal lengths, fewer than two samples or NaN.
    """
    g = as_inefficiency("g", g)
    means, influences, sizes = [], [], []
    for name, values, logs in (("a", observable_a, log_w_a), ("b", observable_b, log_w_b)):
        weights = as_log_weights(f"log_w_{name}", logs)
        o = as_float_array(f"observable_{name}", values)
        if o.shape != weights.shape or o.size < 2:
            expected = f"one value per weight (n = {weights.size} >= 2)"
            raise InputError(f"observable_{name}", expected, o.size)
        w = np.exp(weights - log_sum_exp(weights))
        mean = float(w @ o)
        means.append(mean)
        influences.append(w * (o - mean))
        sizes.append(kish_ess(weights))
    if influences[0].shape != influences[1].shape:
        shapes = (influences[0].size, influences[1].size)
        raise InputError("observable_b", f"{shapes[0]} values, as for a", shapes[1])
    n = influences[0].size
    variance = g * n / (n - 1) * float(np.square(influences[1] - influences[0]).sum())
    ess = min(sizes)
    return Estimate(
        value=means[1] - means[0],
        stderr=math.sqrt(variance),
        n_eff=ess / g,
        method="reweighted difference",
        diagnostics=known({"ess_fraction": ess / n}),
        unit="",
    )
