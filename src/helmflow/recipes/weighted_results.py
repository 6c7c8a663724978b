"""What results from weighted samples have in common, whatever was sampled."""

import math
from collections.abc import Sequence

import numpy as np

from helmflow.estimators.diagnostics import acceptance_error, acceptance_rate
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.reweighting import reweight
from helmflow.recipes.path.certificate import ENOUGH, at_least, at_most
from helmflow.results import Bounds, Check, EstimateRow, Observable, ReferenceDeviation
from helmflow.system import System

Array = np.ndarray


def row_of(method: str, estimate: Estimate) -> EstimateRow:
    """ln Z from an estimate of the free energy -ln Z."""
    found = estimate.diagnostics
    return EstimateRow(
        method,
        -estimate.value,
        estimate.stderr,
        estimate.n_eff,
        found.get("ess_fraction"),
        found.get("pareto_k"),
    )


def references_of(system: System, value: float, stderr: float) -> tuple[ReferenceDeviation, ...]:
    """How far the system's published values of ln Z are away."""
    return tuple(
        ReferenceDeviation.compare(value, stderr, r.value, r.stderr, r.source, r.note)
        for r in system.references
        if r.quantity == "log_partition_function"
    )


def precision_checks(estimate: Estimate, goal: float) -> list[Check]:
    """Whether the error is as small as asked for, and whether enough weights stand behind it."""
    return [
        at_most("target error", estimate.stderr, goal, "nats"),
        at_least("weights that count", estimate.n_eff, ENOUGH, "Kish's number", hard=10.0),
    ]


def tail_check(estimate: Estimate) -> Check:
    """Whether the tail of the weights allows the error to be believed."""
    tail = estimate.diagnostics.get("pareto_k", math.inf)
    return at_most("pareto k", tail, 0.7, "tail of the weights", hard=1.0)


def bounds_of(work: Array) -> Bounds | None:
    """``-<w>_q <= ln Z <= -<w>_p`` (Gibbs-Bogoliubov), the latter by reweighting."""
    if not np.isfinite(work).all():
        return None
    stderr = float(work.std(ddof=1)) / math.sqrt(len(work))
    upper = reweight(work, -work)
    return Bounds(-float(work.mean()), -upper.value, stderr, upper.stderr)


def observables_check(observables: Sequence[Observable]) -> list[Check]:
    """Whether averages agree with what is known; no check where nothing is."""
    off = {row.name: row.deviation_sigma for row in observables if row.exact is not None}
    if not off:
        return []
    name, worst = max(off.items(), key=lambda item: abs(item[1] or 0.0))
    meaning = f"standard errors, of {name}"
    return [at_most("observables against exact", abs(worst or 0.0), 4.0, meaning, hard=8.0)]


def expected_acceptance(log_w: Array) -> Observable:
    """Of independence Metropolis, from the weights alone."""
    rate = min(max(acceptance_rate(log_w), 0.0), 1.0)  # one dominant weight: 0 up to rounding
    return Observable("acceptance, 1 - Gini", rate, acceptance_error(log_w))
