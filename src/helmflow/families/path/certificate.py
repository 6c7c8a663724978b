"""The checks that decide how far a result can be trusted."""

import math
from dataclasses import replace

import numpy as np
from scipy.stats import chi2
from scipy.stats import f as fisher
from scipy.stats import t as student

from helmflow.estimators.estimate import Estimate
from helmflow.estimators.rivals import against_bar, chance_of_means, without_control_variates
from helmflow.families.path.analysis import Analysis, climb
from helmflow.results import Check
from helmflow.skeleton.checks import (
    agreement,
    at_most,
    chance_of,
    comparison,
    effective_samples,
    overlap,
    pareto_tail,
    rounding,
    scatter,
    sigmas,
    target_error,
    weights_that_count,
    within,
)
from helmflow.skeleton.limits import LEFT_THEIR_SITE, QUADRATURE

Array = np.ndarray
TINY = 1e-300
"""Probability that stands for zero."""


def certificate(
    analysis: Analysis, *, goal: float, displaced: float | None, learned: bool
) -> list[Check]:
    """Checks of one run; ``goal`` is the error asked for, kT for the whole system.

    ``learned``: whether the base is a flow, whose own weights are then judged.
    """
    checks = [
        target_error(analysis.statistical, goal),
        effective_samples(analysis.n_eff, "fewest of all nodes"),
    ]
    checks += _one_sided(analysis) if analysis.one_sided else _two_sided(analysis, learned)
    if analysis.integral is not None:
        checks += _integral(analysis, goal)
    checks += _chains(analysis)
    if displaced is not None:
        checks.append(
            within("left their site", displaced, LEFT_THEIR_SITE, "fraction of particles")
        )
    return checks


def _one_sided(analysis: Analysis) -> list[Check]:
    estimate, n = analysis.headline, analysis.samples.work[0].size
    return [
        pareto_tail(estimate.diagnostics.get("pareto_k", math.inf), n),
        weights_that_count(estimate.n_eff),
    ]


def _two_sided(analysis: Analysis, learned: bool) -> list[Check]:
    up, down = climb(analysis.rungs, "up"), climb(analysis.rungs, "down")
    least = min(rung.both.diagnostics["overlap"] for rung in analysis.rungs)
    sizes = [w.size for w in analysis.samples.work]
    tails, n = analysis.pooled_tails, sum(sizes)
    if learned:
        tails, n = analysis.end_tails, min(sizes)
    return [
        agreement("forward against reverse", up, down),
        overlap(least, "least of neighbouring nodes"),
        pareto_tail(max(tails), n, "weights to base and to target"),
    ]


def _integral(analysis: Analysis, goal: float) -> list[Check]:
    """Whether the integral agrees with what else the same samples say."""
    samples, integral = analysis.samples, analysis.integral
    if integral is None:
        return []
    other, meaning = against_bar(samples), "standard errors of the difference"
    other = replace(other, stderr=math.hypot(other.stderr, analysis.quadrature))
    none = Estimate(0.0, 0.0, 0.0, "none")
    cost, limit = "kT, whole system, by its slopes", QUADRATURE * goal
    checks = [
        at_most("quadrature", analysis.quadrature, limit, cost),
        comparison("integration against bar", sigmas(other, none), meaning),
    ]
    chance = chance_of_means(samples)
    if chance is not None:
        moved = without_control_variates(samples, integral)
        checks += [
            comparison("with against without control variates", sigmas(moved, none), meaning),
            chance_of("means of control variates", chance, "of functions of mean zero"),
        ]
    return checks


def _chains(analysis: Analysis) -> list[Check]:
    """Do groups of chains agree, and does the second half of the run agree with the first?"""
    series = analysis.samples.work
    if analysis.integral is not None and analysis.samples.stein is not None:
        series = analysis.integral.residual
    groups, drifts = [], []
    for k, work in enumerate(series):
        if work.shape[1] >= 8:
            groups.append(_group_chi2(work))
        if k and len(work) >= 8 and work.shape[1] >= 4:
            half = len(work) // 2
            change = work[half:].mean(0) - work[:half].mean(0)
            if change.std() > rounding(work[0, 0]):
                drifts.append(_drift_chi2(change))
    checks = []
    if groups:
        total, freedom = np.sum(groups, axis=0)
        checks.append(scatter("repeats agree", total, freedom, "of groups of chains"))
    if drifts:
        meaning = "second half against first"
        checks.append(scatter("no drift", float(np.sum(drifts)), len(drifts), meaning))
    return checks


def _drift_chi2(change: Array) -> float:
    """Chi-squared of one degree that is as improbable as Student's t of the mean change."""
    t = change.mean() / (change.std(ddof=1) / math.sqrt(len(change)))
    return float(chi2.isf(max(2.0 * student.sf(abs(t), len(change) - 1), TINY), 1))


def _group_chi2(work: Array, n_groups: int = 4) -> tuple[float, int]:
    """Scatter of the means of groups of chains against the scatter of chains within them.

    The chi-squared that is as improbable as Fisher's ratio of the two.
    """
    means = work.mean(0)
    groups = [means[k::n_groups] for k in range(n_groups)]
    within = np.mean([g.var(ddof=1) for g in groups])
    if math.sqrt(within) <= rounding(means[0]):
        return 0.0, n_groups - 1
    centre = means.mean()
    total = sum(len(g) * (g.mean() - centre) ** 2 for g in groups) / within
    between = n_groups - 1
    chance = fisher.sf(total / between, between, len(means) - n_groups)
    return float(chi2.isf(max(chance, TINY), between)), between
