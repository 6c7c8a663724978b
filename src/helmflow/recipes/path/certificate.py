"""The checks that decide how far a result can be trusted."""

import math

import numpy as np
from scipy.stats import chi2

from helmflow.estimators.estimate import Estimate
from helmflow.recipes.path.analysis import Analysis, climb
from helmflow.results import Check

Array = np.ndarray
ENOUGH = 50.0
"""Effective samples per node below which error bars are not believed."""

HOPELESS_OVERLAP = 0.001
HOPELESS_DISAGREEMENT = 6.0


def certificate(analysis: Analysis, *, goal: float, displaced: float | None) -> list[Check]:
    """Checks of one run; ``goal`` is the error asked for, kT for the whole system.

    Limits follow Mey et al. (doi:10.33011/livecoms.2.1.18378) for overlap and effective samples
    and Vehtari et al. (arXiv:1507.02646) for k-hat.
    """
    checks = [
        at_most("target error", analysis.headline.stderr, goal, "kT, whole system"),
        at_least("effective samples", analysis.n_eff, ENOUGH, "least of all nodes", hard=10.0),
    ]
    checks += _one_sided(analysis.headline) if analysis.one_sided else _two_sided(analysis)
    checks += _chains(analysis)
    if displaced is not None:
        checks.append(
            at_most("left their site", displaced, 1e-3, "fraction of particles", hard=1e-2)
        )
    return checks


def _one_sided(estimate: Estimate) -> list[Check]:
    tail = estimate.diagnostics.get("pareto_k", math.inf)
    return [
        at_most("pareto k", tail, 0.7, "tail of the weights", hard=1.0),
        at_least("weights that count", estimate.n_eff, ENOUGH, "Kish's number", hard=10.0),
    ]


def _two_sided(analysis: Analysis) -> list[Check]:
    up, down = climb(analysis.rungs, "up"), climb(analysis.rungs, "down")
    overlap = min(r.both.diagnostics["overlap"] for r in analysis.rungs)
    checks = [
        at_most("forward against reverse", sigmas(up, down), 2.0, "standard errors"),
        at_least("overlap", overlap, 0.03, "least of neighbouring nodes", hard=HOPELESS_OVERLAP),
        at_most("pareto k", max(analysis.tails), 0.7, "weights to base and to target"),
    ]
    if len(analysis.rungs) > 1:
        other = math.inf
        if analysis.states is not None:
            other = sigmas(analysis.headline, analysis.states.difference(0, len(analysis.rungs)))
        checks.insert(
            0,
            at_most(
                "integration against mbar",
                other,
                2.0,
                "standard errors",
                hard=HOPELESS_DISAGREEMENT,
            ),
        )
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
            if change.std() > _rounding(work[0, 0]):
                drifts.append(change.mean() / (change.std(ddof=1) / math.sqrt(len(change))))
    checks = []
    if groups:
        total, freedom = np.sum(groups, axis=0)
        chance = float(chi2.sf(total, freedom))
        checks.append(at_least("repeats agree", chance, 0.01, "chance of their scatter"))
    if drifts:
        total = float(np.square(drifts).sum())
        chance = float(chi2.sf(total, len(drifts)))
        checks.append(at_least("no drift", chance, 0.01, "chance of the halves' difference"))
    return checks


def _group_chi2(work: Array, n_groups: int = 4) -> tuple[float, int]:
    """Scatter of the means of groups of chains against the scatter of chains within them."""
    means = work.mean(0)
    groups = [means[k::n_groups] for k in range(n_groups)]
    within = np.mean([g.var(ddof=1) for g in groups])
    if math.sqrt(within) <= _rounding(means[0]):
        return 0.0, n_groups - 1
    centre = means.mean()
    total = sum(len(g) * (g.mean() - centre) ** 2 for g in groups) / within
    # With few chains the ratio follows an F law; its tail is matched by rescaling to chi2.
    freedom = len(means) - n_groups
    return float(total * max(freedom - 2, 1) / freedom), n_groups - 1


def sigmas(a: Estimate, b: Estimate) -> float:
    """Difference of two independent estimates in standard errors; zero for mere rounding."""
    scale = math.hypot(a.stderr, b.stderr)
    difference = abs(a.value - b.value)
    if difference <= _rounding(a.value):
        return 0.0
    return difference / scale if scale > 0.0 else math.inf


def _rounding(value: float) -> float:
    """What rounding alone can make of a difference of two numbers of this size."""
    return 1e-11 * (1.0 + abs(value))


def at_most(name: str, value: float, limit: float, meaning: str, hard: float = math.inf) -> Check:
    """A check that passes up to ``limit``; beyond ``hard`` the number cannot be trusted."""
    broken = not value <= hard
    bound = hard if broken else limit
    return Check(name, value, bound, bool(value <= limit), "hard" if broken else "soft", meaning)


def at_least(
    name: str, value: float, limit: float, meaning: str, hard: float = -math.inf
) -> Check:
    """A check that passes from ``limit`` on; below ``hard`` the number cannot be trusted."""
    broken = not value >= hard
    bound = hard if broken else limit
    return Check(name, value, bound, bool(value >= limit), "hard" if broken else "soft", meaning)
