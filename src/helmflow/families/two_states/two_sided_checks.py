"""The checks of a free-energy difference between two sampled states."""

import math

import numpy as np
from scipy.stats import chi2

from helmflow.estimators.diagnostics import work_bounds
from helmflow.estimators.estimate import Estimate
from helmflow.families.path.certificate import (
    ENOUGH,
    HOPELESS_DISAGREEMENT,
    HOPELESS_OVERLAP,
    at_least,
    at_most,
    sigmas,
)
from helmflow.families.two_states.two_sided import Works
from helmflow.results import Check

UNLIKELY, HOPELESS_CHANCE = 1e-2, 1e-6
"""Chance of the scatter of quarters below which it is remarked, and the error bar is a lie."""


def two_sided_checks(works: Works, estimate: Estimate) -> list[Check]:
    """What Mey et al. (doi:10.33011/livecoms.2.1.18378) ask of two sampled states, and more.

    The tails of one-sided weights (k-hat) are shown with the estimates and not judged here:
    Bennett's estimate weighs samples by a Fermi function, which is bounded, and fails by lack of
    overlap alone.
    """
    found = estimate.diagnostics
    sizes = (works.forward.size / works.g[0], works.reverse.size / works.g[1])
    up, down = works.sides()
    return [
        at_least("effective samples", min(sizes), ENOUGH, "fewer of the two sides", hard=10.0),
        at_least(
            "overlap",
            found["overlap"],
            0.03,
            "probability that a sample of one state belongs to the other",
            hard=HOPELESS_OVERLAP,
        ),
        at_least("samples in the overlap", found["n_overlap"], ENOUGH, "those that BAR rests on"),
        at_most(
            "forward against reverse",
            sigmas(up, down),
            2.0,
            "standard errors",
            hard=HOPELESS_DISAGREEMENT,
        ),
        second_law(works),
        *_repeats(works),
    ]


def second_law(*pairs: Works) -> Check:
    """<w_F> + <w_R> is a sum of two Kullback-Leibler divergences, never negative."""
    return at_most(
        "bounds in order",
        max(0.0, *(_below(works) for works in pairs)),
        3.0,
        "standard errors by which the upper bound lies below the lower one, as it does when the "
        "samples of A and B are exchanged",
        hard=5.0,
    )


def _below(works: Works) -> float:
    lower, upper = work_bounds(works.forward, works.reverse, g=works.g)
    gap, scale = upper.value - lower.value, math.hypot(upper.stderr, lower.stderr)
    return -gap / scale if math.isfinite(scale) and scale > 0.0 else 0.0


def chance_of_quarters(works: Works) -> float | None:
    """Chance that four estimates, one of each quarter, scatter as they do; None where unknown."""
    blocks = works.blocks()
    if not blocks or not all(b.stderr > 0.0 and math.isfinite(b.stderr) for b in blocks):
        return None
    value = np.array([b.value for b in blocks])
    weight = np.array([b.stderr for b in blocks]) ** -2.0
    centre = float(weight @ value / weight.sum())
    return float(chi2.sf(float(weight @ (value - centre) ** 2), len(blocks) - 1))


def _repeats(works: Works) -> list[Check]:
    chance = chance_of_quarters(works)
    if chance is None:
        return []
    first, last = works.part(0.0, 0.5).bar(), works.part(0.5, 1.0).bar()
    text = "chance of their scatter"
    return [
        at_least("quarters agree", chance, UNLIKELY, text, hard=HOPELESS_CHANCE),
        at_most("halves agree", sigmas(first, last), 3.0, "standard errors"),
    ]
