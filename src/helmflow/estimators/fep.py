"""Free-energy perturbation from one side."""

import math

import numpy as np
from numpy.typing import ArrayLike

from helmflow.estimators.bootstrap import resampling_counts
from helmflow.estimators.diagnostics import pareto_k
from helmflow.estimators.estimate import Estimate, known
from helmflow.estimators.inputs import FloatArray, as_inefficiency, as_work
from helmflow.estimators.reweighting import MODELLED, fading, kish_ess, log_mean_exp, upper_spread

_CUMULANT = 25.0
"""Effective samples below which the second cumulant is as good a guess."""

_HEAVY_TAIL = 0.7
"""Pareto shape above which the variance of the weights says nothing about the error."""


def fep(w_F: ArrayLike, *, g: float = 1.0) -> Estimate:
    """Zwanzig's estimate of delta_f = f_B - f_A from works of samples of A; targeted if mapped.

    ``delta_f = -ln <exp(-w_F)>_A``, ``w_F`` (n,) in kT with any log-determinant inside, +inf for
    a configuration impossible in B. For reverse works the result is f_A - f_B. ``stderr`` is the
    larger of the asymptotic and the bootstrap error, both for the statistical inefficiency ``g``
    of the samples. Below 200 effective samples it is at least that of log-normal weights,
    ``ln(1 + [g (exp(s^2) - 1)/n]^1/2)`` with s the spread of -w above its median; below 50, or
    with a Pareto shape above 0.7, at least the distance to the second cumulant
    ``<w> - var(w)/2`` (both fade in). Blind to parts of B that A
    never visits: prefer `bar`. Raises InputError for fewer than 2 works, NaN, -inf or no finite
    work.
    Source: R. W. Zwanzig, doi:10.1063/1.1740409; C. Jarzynski, doi:10.1103/PhysRevE.65.046122.
    """
    work, g = as_work("w_F", w_F), as_inefficiency("g", g)
    n = work.size
    value = -log_mean_exp(-work)
    ess = kish_ess(-work)
    tail = pareto_k(-work)
    asymptotic, bootstrap = _stderrs(work, g)
    stderr = max(asymptotic, bootstrap)
    finite = work[np.isfinite(work)]
    variance = math.expm1(min(upper_spread(-work) ** 2, 700.0))
    log_normal = math.log1p(math.sqrt(g * variance / n))
    cumulant = float(finite.mean() - 0.5 * finite.var())
    share = 1.0 if tail > _HEAVY_TAIL else fading(ess / g, _CUMULANT)
    stderr = max(stderr, fading(ess / g, MODELLED) * log_normal, share * abs(value - cumulant))
    return Estimate(
        value=value,
        stderr=stderr,
        n_eff=ess / g,
        method="fep",
        diagnostics=known(
            {
                "ess_fraction": ess / n,
                "pareto_k": tail,
                "stderr_asymptotic": asymptotic,
                "stderr_bootstrap": bootstrap,
                "n_infinite": float(n - finite.size),
                "g": g,
            }
        ),
    )


def _stderrs(work: FloatArray, g: float) -> tuple[float, float]:
    """Asymptotic (delta method) and bootstrap standard errors."""
    n = work.size
    weights = np.exp(work.min() - work)
    asymptotic = math.sqrt(g * float(weights.var(ddof=1)) / n) / float(weights.mean())
    sums = np.concatenate([counts @ weights for counts in resampling_counts([n], [g])])
    # A replica that misses every sample of weight is an estimate of "very large", not of inf.
    sums = np.maximum(sums, np.finfo(np.float64).tiny)
    return asymptotic, float(np.log(sums / sums.max()).std(ddof=1))
