"""The checks of a free-energy difference between two sampled states."""

import math

import numpy as np
from scipy.stats import chi2

from helmflow.estimators.diagnostics import work_bounds
from helmflow.estimators.estimate import Estimate
from helmflow.families.two_states.two_sided import Works
from helmflow.results import Check
from helmflow.skeleton.checks import (
    at_least,
    bounds_in_order,
    chance_of,
    effective_samples,
    halves_agree,
    overlap,
    scatter,
)
from helmflow.skeleton.limits import CHANCE, EFFECTIVE_SAMPLES


def two_sided_checks(works: Works, estimate: Estimate) -> list[Check]:
    """What Mey et al. (doi:10.33011/livecoms.2.1.18378) ask of two sampled states, and more.

    The tails of one-sided weights (k-hat) are shown with the estimates and not judged here:
    Bennett's estimate weighs samples by a Fermi function, which is bounded, and fails by lack of
    overlap alone.
    """
    diagnostics = estimate.diagnostics
    sizes = (works.forward.size / works.g[0], works.reverse.size / works.g[1])
    shared, meaning = diagnostics["n_overlap"], "those that BAR rests on"
    belongs = "probability that a sample of one state belongs to the other"
    return [
        effective_samples(min(sizes), "fewer of the two sides"),
        overlap(diagnostics["overlap"], belongs),
        at_least("samples in the overlap", shared, EFFECTIVE_SAMPLES.soft, meaning),
        *crooks_relation(estimate),
        second_law(works),
        *_repeats(works),
    ]


def crooks_relation(*bars: Estimate, hint: str = "") -> list[Check]:
    """Whether works of both sides belong together, over all pairs of states; [] if none share.

    ``hint``: what else speaks of a cause.
    """
    known = [e.diagnostics["crooks_chance"] for e in bars if "crooks_chance" in e.diagnostics]
    meaning = f"chance that works of sound samples contradict Crooks' relation as much{hint}"
    least = min(1.0, len(known) * min(known, default=1.0))
    return [chance_of("forward against reverse", least, meaning)] if known else []


def second_law(*pairs: Works) -> Check:
    """Whether bounds of all pairs of states are in order."""
    return bounds_in_order(max(0.0, *(_below(works) for works in pairs)))


def _below(works: Works) -> float:
    lower, upper = work_bounds(works.forward, works.reverse, g=works.g)
    gap, scale = upper.value - lower.value, math.hypot(upper.stderr, lower.stderr)
    return -gap / scale if math.isfinite(scale) and scale > 0.0 else 0.0


def believable(works: Works) -> bool:
    """Whether the scatter of quarters leaves the error bar a chance."""
    chance = chance_of_quarters(works)
    return chance is None or chance > CHANCE


def chance_of_quarters(works: Works) -> float | None:
    """Chance that four estimates, one of each quarter, scatter as they do; None where unknown."""
    quarters = _scatter_of_quarters(works)
    return None if quarters is None else float(chi2.sf(*quarters))


def _scatter_of_quarters(works: Works) -> tuple[float, int] | None:
    """Chi-squared and its degrees of freedom."""
    blocks = works.blocks()
    value = np.array([b.value for b in blocks])
    # Without what widens the bar of works that contradict each other: that is to be seen.
    kinds = ("stderr_asymptotic", "stderr_bootstrap")
    stderr = np.array([max(b.diagnostics.get(k, math.inf) for k in kinds) for b in blocks])
    if not blocks or not (np.isfinite(stderr) & (stderr > 0.0)).all():
        return None
    weight = stderr**-2.0
    centre = float(weight @ value / weight.sum())
    return float(weight @ (value - centre) ** 2), len(blocks) - 1


def _repeats(works: Works) -> list[Check]:
    quarters = _scatter_of_quarters(works)
    if quarters is None:
        return []
    first, last = works.part(0.0, 0.5).bar(), works.part(0.5, 1.0).bar()
    meaning = "chance of their scatter"
    return [
        scatter("quarters agree", *quarters, meaning),
        halves_agree(first, last),
    ]
