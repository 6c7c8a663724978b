"""What a set of weights or works says about its own reliability."""

import math

import numpy as np
from numpy.typing import ArrayLike

from helmflow.estimators.estimate import Estimate
from helmflow.estimators.inputs import (
    FloatArray,
    as_inefficiency,
    as_log_weights,
    as_work,
)
from helmflow.estimators.reweighting import log_sum_exp

_EQUAL = 0.02
"""Of the largest weight: two per cent between the least and the largest of the tail."""

_REACH = 0.3
"""Of ``ln(largest weight / threshold) / ln M``, M weights above the threshold: below it the tail
has ended before it could grow like a power, and bounded weights have a short tail."""


def forward_ess(log_w: ArrayLike) -> float:
    """Effective number of samples seen from the target side, sensitive to missing modes.

    ``n / (mean_p(w) mean_p(1/w))`` for log weights (n,) evaluated on samples of the *target*;
    divided by n it converges to the same 1/E_q[w^2] as `kish_ess` does on proposals, but goes
    to zero when the proposal misses part of the target. Raises InputError as `kish_ess`.
    Source: K. A. Nicoli et al., doi:10.1103/PhysRevD.108.114501.
    """
    values = as_log_weights("log_w", log_w)
    if np.isneginf(values).any():
        return 0.0
    return math.exp(3.0 * math.log(values.size) - log_sum_exp(values) - log_sum_exp(-values))


def pareto_k(log_w: ArrayLike) -> float:
    """Shape k-hat of the generalised Pareto tail of the weights exp(log_w), log_w (n,).

    Below 0.5 the weights have a finite variance, below 0.7 averages are usable, above they are
    not; +inf when a few weights dwarf all others, 0 when the largest weights are equal to a per
    cent, whose tail can move no average. The largest of M weights with a tail of shape k is about
    M^k times their threshold: where it is less than M^0.3 times, k-hat is at most that exponent,
    whatever noise makes of the fit.
    NaN below 26 weights: no tail to fit. Raises InputError for NaN or +inf.
    Source: A. Vehtari et al., J. Mach. Learn. Res. 25 (2024) 72, arXiv:1507.02646.
    """
    values = as_log_weights("log_w", log_w)
    n = values.size
    if n <= 25:
        return math.nan
    n_tail = math.floor(3.0 * math.sqrt(n)) if n > 225 else n // 5
    # e^-700 of the largest weight is zero for any purpose, and keeps the exponentials finite.
    values = np.maximum(values - values.max(), -700.0)
    tail = np.exp(np.partition(values, n - n_tail - 1)[n - n_tail - 1 :])
    if tail.max() - tail[1:].min() < _EQUAL:
        return 0.0
    if np.quantile(tail[1:] - tail[0], 0.25, method="lower") <= 0.0:
        return math.inf
    from arviz_stats.base.array import array_stats

    # Not psislw, which takes the logarithm of *inverse* weights.
    weights = np.exp(values)[None, :]
    shape = np.asarray(array_stats.pareto_khat(weights, r_eff=1.0, tail="right")).item()
    reach = math.log(tail.max() / tail[0]) / math.log(n_tail) if tail[0] > 0.0 else math.inf
    return min(shape, reach) if reach < _REACH else shape


def acceptance_rate(log_w: ArrayLike) -> float:
    """Equilibrium acceptance of independence Metropolis, from n independent weights.

    ``A = E min(w, w') = 1 - Gini(w)`` over pairs of distinct weights, w of mean one. Needs no
    chain. Raises InputError for NaN or +inf.
    """
    values = np.sort(as_log_weights("log_w", log_w))
    n = values.size
    if n == 1:
        return 1.0
    w = np.exp(values - values[-1])
    gini = float((2.0 * np.arange(1, n + 1) - n - 1.0) @ w) / ((n - 1.0) * float(w.sum()))
    return 1.0 - gini


def acceptance_error(log_w: ArrayLike) -> float:
    """Standard error of `acceptance_rate`, by its linear response to every one of n weights.

    A is a ratio of means, ``E min(w, w') / E w``, so that
    ``d_i = (2 h_i - 2 E h - A (w_i - E w)) / E w`` with ``h_i = E min(w_i, w')``.
    """
    values = np.sort(as_log_weights("log_w", log_w))
    n = values.size
    w = np.exp(values - values[-1])
    below = np.cumsum(w) - w
    h = (below + w * (n - np.arange(n))) / n
    response = 2.0 * (h - h.mean()) - h.mean() / w.mean() * (w - w.mean())
    return float(response.std()) / (float(w.mean()) * math.sqrt(n))


def rejection_tau(log_w: ArrayLike) -> float:
    """Autocorrelation time of independence Metropolis due to rejections, from n weights.

    ``tau_acc = E_p[1 / a(w)] - 1/2`` with a(w) the probability to leave a state of weight w,
    estimated as ``a_i = (#{j: w_j >= w_i} + sum_{w_j < w_i} w_j / w_i) / n``. 1/2 for equal
    weights. Raises InputError for NaN or +inf.
    Source: closed form of the estimator of doi:10.1103/PhysRevD.100.034515.
    """
    values = np.sort(as_log_weights("log_w", log_w))
    w = np.exp(values[np.isfinite(values)] - values[-1])
    w = w[w > 0.0]
    first = np.searchsorted(w, w, side="left")
    below = np.concatenate([[0.0], np.cumsum(w)])[first]
    leave = (w.size - first + below / w) / values.size
    return float(w @ (1.0 / leave)) / float(w.sum()) - 0.5


def work_bounds(
    w_F: ArrayLike, w_R: ArrayLike, *, g: tuple[float, float] = (1.0, 1.0)
) -> tuple[Estimate, Estimate]:
    """Lower and upper bound of delta_f = f_B - f_A from the second law.

    ``-<w_R> <= delta_f <= <w_F>`` (Gibbs-Bogoliubov), each with the standard error of its mean;
    the gap is the symmetrised Kullback-Leibler divergence. ``w_F`` (n,), ``w_R`` (m,) in kT;
    an infinite work makes its bound infinite. Raises InputError as `bar`.
    """
    lower = _mean(-as_work("w_R", w_R), as_inefficiency("g", g[1]))
    upper = _mean(as_work("w_F", w_F), as_inefficiency("g", g[0]))
    return lower, upper


def _mean(values: FloatArray, g: float) -> Estimate:
    finite = bool(np.isfinite(values).all())
    n = values.size
    return Estimate(
        value=float(values.mean()),
        stderr=math.sqrt(g * float(values.var(ddof=1)) / n) if finite else math.inf,
        n_eff=n / g,
        method="work bound",
    )
