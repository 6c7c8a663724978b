"""Bennett's acceptance ratio: the free-energy difference from works in both directions."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit

from helmflow.errors import InputError
from helmflow.estimators.bootstrap import (
    MIN_EFFECTIVE,
    NO_OVERLAP,
    asymptotic_covariance,
    bootstrap_free_energies,
)
from helmflow.estimators.crooks import crooks_chance
from helmflow.estimators.diagnostics import pareto_k, work_bounds
from helmflow.estimators.estimate import Estimate, known
from helmflow.estimators.inputs import FloatArray, as_inefficiency, as_work
from helmflow.estimators.reweighting import fading, kish_ess, log_sum_exp

_CONTRADICTION = (1e-3, 1e-6)
"""Chance of works that contradict Crooks' relation: where the bounds begin to count as the only
thing known, and where nothing else does."""


def bar(w_F: ArrayLike, w_R: ArrayLike, *, g: tuple[float, float] = (1.0, 1.0)) -> Estimate:
    """Bennett's estimate of delta_f = f_B - f_A from works both ways; targeted if mapped.

    Solves ``sum_F 1/(1 + exp(M + w_F - delta_f)) = sum_R 1/(1 + exp(-M + w_R + delta_f))``,
    ``M = ln(n_F/n_R)``. ``w_F`` (n,) are works A -> B of samples of A, ``w_R`` (m,) works
    B -> A of samples of B, both in kT, +inf allowed (weight zero). ``stderr`` is the larger of
    the asymptotic and the bootstrap error, both for the statistical inefficiencies ``g`` of the
    two sides; with fewer than 10 samples in the overlap it is at least half the distance
    between the bounds ``-<w_R> <= delta_f <= <w_F>``, which fades out up to 20, and so it is for
    works that contradict Crooks' relation (``diagnostics["crooks_chance"]`` below 1e-3, 1e-6).
    ``diagnostics["overlap"]`` is `overlap`: do not trust an estimate below 0.03. Raises
    InputError for fewer than 2 works on a side, NaN, -inf or no finite work.
    Source: C. H. Bennett, doi:10.1016/0021-9991(76)90078-4.
    """
    forward, reverse = as_work("w_F", w_F), as_work("w_R", w_R)
    if len(g) != 2:
        raise InputError("g", "two inefficiencies (forward, reverse)", g)
    g = (as_inefficiency("g", g[0]), as_inefficiency("g", g[1]))
    n_k = (forward.size, reverse.size)
    value = _root(forward, reverse)
    arguments = _arguments(forward, reverse, value)
    other = [kish_ess(-np.logaddexp(0.0, x)) / g_i for x, g_i in zip(arguments, g, strict=True)]
    p = _membership(arguments)
    asymptotic, bootstrap = _stderrs(p, n_k, g)
    stderr = max(asymptotic, bootstrap)
    finite = (forward[np.isfinite(forward)], reverse[np.isfinite(reverse)])
    half_gap = abs(float(finite[0].mean() + finite[1].mean())) / 2.0
    chance = crooks_chance(arguments, g)
    if not math.isfinite(stderr):
        stderr = half_gap
    else:
        share = max(fading(min(other), MIN_EFFECTIVE), _contradicted(chance))
        stderr = max(stderr, share * half_gap)
    ess = (kish_ess(-forward), kish_ess(-reverse))
    tails = (pareto_k(-forward), pareto_k(-reverse))
    lower, upper = work_bounds(forward, reverse, g=g)
    return Estimate(
        value=value,
        stderr=stderr,
        n_eff=min(n_k[0] / g[0], n_k[1] / g[1]),
        method="bar",
        diagnostics=known(
            {
                "overlap": _overlap(p, n_k),
                "n_overlap": min(other),
                "crooks_chance": math.nan if chance is None else chance,
                "ess_fraction_forward": ess[0] / n_k[0],
                "ess_fraction_reverse": ess[1] / n_k[1],
                "pareto_k_forward": tails[0],
                "pareto_k_reverse": tails[1],
                "lower_bound": lower.value,
                "upper_bound": upper.value,
                "stderr_asymptotic": asymptotic,
                "stderr_bootstrap": bootstrap,
                "n_infinite_forward": float(n_k[0] - finite[0].size),
                "n_infinite_reverse": float(n_k[1] - finite[1].size),
                "g_forward": g[0],
                "g_reverse": g[1],
            }
        ),
    )


def _contradicted(chance: float | None) -> float:
    """0 for works that may be sound, 1 for those that are not."""
    if chance is None:
        return 0.0
    first, last = (math.log(limit) for limit in _CONTRADICTION)
    return min(max((first - math.log(max(chance, 1e-300))) / (first - last), 0.0), 1.0)


def overlap(w_F: ArrayLike, w_R: ArrayLike, delta_f: float) -> float:
    """Overlap of two states, 0 (none) to 1/2 (identical), at a given delta_f = f_B - f_A.

    ``(N/2) sum_n W_n0 W_n1`` over the N samples of both states: for equal numbers of samples
    the off-diagonal element of the overlap matrix, to which the usual limit of 0.03 applies,
    and half of pymbar's overlap scalar. Works as for `bar`; InputError as there.
    Source: P. V. Klimovich, M. R. Shirts, D. L. Mobley, doi:10.1007/s10822-015-9840-9.
    """
    forward, reverse = as_work("w_F", w_F), as_work("w_R", w_R)
    p = _membership(_arguments(forward, reverse, delta_f))
    return _overlap(p, (forward.size, reverse.size))


def bar_root(forward: FloatArray, reverse: FloatArray) -> tuple[float, float]:
    """Bennett's delta_f of works (n,), (m,) alone, and how many samples the states share.

    The latter is ``sum p (1 - p)`` over both sides, p the chance to belong to the other state.
    """
    value = _root(forward, reverse)
    p = [expit(-x) for x in _arguments(forward, reverse, value)]
    return value, float(sum((x * (1.0 - x)).sum() for x in p))


def bar_response(lower: FloatArray, upper: FloatArray) -> tuple[float, FloatArray, FloatArray]:
    """Bennett's delta_f of works of any shape, and what every sample adds to it, to first order.

    With ``p`` the chance that a sample belongs to the other state and ``H = sum p (1 - p)`` over
    both sides, ``-(p - <p>)/H`` for samples of A, ``(p - <p>)/H`` for those of B; NaN where H is
    next to nothing. Works as for `bar`, shapes kept.
    """
    value, shared = bar_root(lower.ravel(), upper.ravel())
    p_a, p_b = (expit(-x) for x in _arguments(lower, upper, value))
    if shared < NO_OVERLAP:
        shared = math.nan
    return value, -(p_a - p_a.mean()) / shared, (p_b - p_b.mean()) / shared


def _overlap(p: FloatArray, n_k: tuple[int, int]) -> float:
    return 0.5 * sum(n_k) * float(p[:, 0] @ p[:, 1]) / (n_k[0] * n_k[1])


def _arguments(
    forward: FloatArray, reverse: FloatArray, delta_f: float
) -> tuple[FloatArray, FloatArray]:
    """Values x such that 1/(1 + e^x) is the chance that a sample belongs to the *other* state."""
    m = math.log(forward.size / reverse.size)
    return m + forward - delta_f, reverse + delta_f - m


def _membership(arguments: tuple[FloatArray, FloatArray]) -> FloatArray:
    of_b = np.concatenate([-arguments[0], arguments[1]])
    return np.stack([expit(-of_b), expit(of_b)], axis=1)


def _root(forward: FloatArray, reverse: FloatArray) -> float:
    """The root of Bennett's equation in logarithms, where it survives any lack of overlap."""

    def imbalance(delta_f: float) -> float:
        x_f, x_r = _arguments(forward, reverse, delta_f)
        return log_sum_exp(-np.logaddexp(0.0, x_f)) - log_sum_exp(-np.logaddexp(0.0, x_r))

    finite = np.concatenate([forward[np.isfinite(forward)], -reverse[np.isfinite(reverse)]])
    lo, hi = float(finite.min()) - 1.0, float(finite.max()) + 1.0
    step = 1.0
    while imbalance(lo) > 0.0:
        lo, step = lo - step, 2.0 * step
    while imbalance(hi) < 0.0:
        hi, step = hi + step, 2.0 * step
    rtol = np.float64(1e-14)
    root, _ = brentq(imbalance, lo, hi, xtol=1e-12, rtol=rtol, full_output=True)
    return float(root)


def _stderrs(p: FloatArray, n_k: tuple[int, int], g: tuple[float, float]) -> tuple[float, float]:
    covariance = asymptotic_covariance(p, n_k, g)
    if covariance is None:
        return math.inf, math.inf
    shifts = bootstrap_free_energies(p, n_k, g)
    return math.sqrt(float(covariance[0, 0])), float(shifts[:, 0].std(ddof=1))
