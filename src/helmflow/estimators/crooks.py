"""Whether works from both sides belong to one pair of states: Crooks' relation between them."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit
from scipy.stats import f as fisher

from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.inputs import FloatArray

_ROUNDING = 1e-9
"""Of a mean of terms between -1 and 1 that is zero."""

_DEPENDENT = 1e-6
"""Part of the largest variance below which a combination of both scores is rounding."""


def crooks_chance(
    arguments: tuple[FloatArray, FloatArray], g: tuple[float, float]
) -> float | None:
    """Probability that works of a sound pair of states contradict Crooks' relation as these do.

    ``p_F(w) = p_R(-w) exp(w - delta_f)`` makes the chance to be a sample of B, seen its work,
    ``1/(1 + exp(M + w - delta_f))``. Bennett's estimate is the maximum of its likelihood in
    delta_f; the likelihood must not grow either if ``w`` is given another slope or a bend, here
    powers one and two of ``d = p_B - p_A`` of each sample. Rao's score test: all terms are
    bounded and vanish where the states share nothing, unlike averages of exp(-w), whose variance
    may be infinite. ``arguments``: logarithms of the odds to be a sample of its *own* state, for
    samples of A (n,) and of B (m,) in time order, at Bennett's delta_f. ``g``: their known
    inefficiencies; if larger ones show in the terms, these. None where few samples are shared, and
    for works that neither scatter nor disagree.
    Source: G. E. Crooks, doi:10.1103/PhysRevE.60.2721; M. R. Shirts et al.,
    doi:10.1103/PhysRevLett.91.140601.
    """
    sides = _scores(arguments)
    seen_g = [max(map(_inefficiency, side)) for side in sides]
    g = (max(g[0], seen_g[0]), max(g[1], seen_g[1]))
    total = sides[0].sum(1) + sides[1].sum(1)
    covariance = np.sum(
        [g_i * s.shape[1] * np.cov(s) for g_i, s in zip(g, sides, strict=True)], axis=0
    )
    spread = np.sqrt(np.diag(covariance))
    if not (spread > 0.0).all():
        agree = (np.abs(total) <= _ROUNDING * (sides[0].shape[1] + sides[1].shape[1])).all()
        return None if agree else 0.0
    eigenvalues, directions = np.linalg.eigh(covariance / np.outer(spread, spread))
    seen = eigenvalues > _DEPENDENT * eigenvalues[-1]
    along = directions[:, seen].T / spread
    m, t_squared = int(seen.sum()), float(((along @ total) ** 2 / eigenvalues[seen]).sum())
    left = _freedom([along @ side for side in sides], g) - m + 1.0
    if left < 1.0:
        return None
    return float(fisher.sf(t_squared * left / (m * (left + m - 1.0)), m, left))


def _scores(arguments: tuple[FloatArray, FloatArray]) -> list[FloatArray]:
    """What samples add to slope and bend, (2, n) and (2, m), orthogonal to a change of delta_f."""
    odds = (-arguments[0], arguments[1])  # logarithm of p_B / p_A
    shared = [expit(x) * expit(-x) for x in odds]
    powers = [np.stack([d, d * d]) for d in (np.tanh(0.5 * x) for x in odds)]
    n_shared = max(float(shared[0].sum() + shared[1].sum()), np.finfo(np.float64).tiny)
    centre = (powers[0] @ shared[0] + powers[1] @ shared[1]) / n_shared
    return [
        sign * expit(sign * x) * (p - centre[:, None])
        for sign, x, p in zip((1.0, -1.0), odds, powers, strict=True)
    ]


def _freedom(sides: list[FloatArray], g: Sequence[float]) -> float:
    """Samples that the variance of each score rests on, by their fourth moments; the fewest."""
    second = np.sum([g_i * (s**2).sum(1) for g_i, s in zip(g, sides, strict=True)], 0)
    fourth = np.sum([g_i**3 * (s**4).sum(1) for g_i, s in zip(g, sides, strict=True)], 0)
    return float((second**2 / fourth).min())


def _inefficiency(series: FloatArray) -> float:
    g = integrated_autocorrelation(series).g if series.size >= 4 else 1.0
    return min(g, float(series.size))
