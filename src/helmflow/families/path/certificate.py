"""The checks that decide how far a result can be trusted."""

import math

import numpy as np

from helmflow.estimators.estimate import Estimate
from helmflow.families.path.analysis import Analysis, climb
from helmflow.results import Check
from helmflow.skeleton.checks import (
    LEFT_THEIR_SITE,
    PARETO_K,
    agreement,
    at_most,
    chance_of,
    effective_samples,
    overlap,
    pareto_tail,
    rounding,
    target_error,
    weights_that_count,
)

Array = np.ndarray


def certificate(analysis: Analysis, *, goal: float, displaced: float | None) -> list[Check]:
    """Checks of one run; ``goal`` is the error asked for, kT for the whole system."""
    checks = [
        target_error(analysis.headline, goal),
        effective_samples(analysis.n_eff, "fewest of all nodes"),
    ]
    checks += _one_sided(analysis.headline) if analysis.one_sided else _two_sided(analysis)
    checks += _chains(analysis)
    if displaced is not None:
        soft, hard = LEFT_THEIR_SITE.soft, LEFT_THEIR_SITE.hard
        meaning = "fraction of particles"
        checks.append(at_most("left their site", displaced, soft, meaning, hard=hard))
    return checks


def _one_sided(estimate: Estimate) -> list[Check]:
    return [
        pareto_tail(estimate.diagnostics.get("pareto_k", math.inf)),
        weights_that_count(estimate.n_eff),
    ]


def _two_sided(analysis: Analysis) -> list[Check]:
    up, down = climb(analysis.rungs, "up"), climb(analysis.rungs, "down")
    least = min(rung.both.diagnostics["overlap"] for rung in analysis.rungs)
    checks = [
        agreement("forward against reverse", up, down),
        overlap(least, "least of neighbouring nodes"),
        at_most("pareto k", max(analysis.tails), PARETO_K.soft, "weights to base and to target"),
    ]
    if len(analysis.rungs) > 1:
        other = Estimate(math.inf, 0.0, 0.0, "mbar")
        if analysis.states is not None:
            other = analysis.states.difference(0, len(analysis.rungs))
        checks.insert(0, agreement("integration against mbar", analysis.headline, other))
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
                drifts.append(change.mean() / (change.std(ddof=1) / math.sqrt(len(change))))
    checks = []
    if groups:
        total, freedom = np.sum(groups, axis=0)
        checks.append(chance_of("repeats agree", total, freedom, "chance of their scatter"))
    if drifts:
        total = float(np.square(drifts).sum())
        meaning = "chance of the halves' difference"
        checks.append(chance_of("no drift", total, len(drifts), meaning))
    return checks


def _group_chi2(work: Array, n_groups: int = 4) -> tuple[float, int]:
    """Scatter of the means of groups of chains against the scatter of chains within them."""
    means = work.mean(0)
    groups = [means[k::n_groups] for k in range(n_groups)]
    within = np.mean([g.var(ddof=1) for g in groups])
    if math.sqrt(within) <= rounding(means[0]):
        return 0.0, n_groups - 1
    centre = means.mean()
    total = sum(len(g) * (g.mean() - centre) ** 2 for g in groups) / within
    # With few chains the ratio follows an F law; its tail is matched by rescaling to chi2.
    freedom = len(means) - n_groups
    return float(total * max(freedom - 2, 1) / freedom), n_groups - 1
