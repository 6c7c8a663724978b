"""What a run makes of a search for modes: a flow with them, and what is still missing."""

import math
from dataclasses import replace

import torch

from helmflow.families.density.architecture import Architecture, empty_flow
from helmflow.families.density.learned_flow import LearnedFlow, with_modes
from helmflow.families.density.modes import LOST, POOR, SearchPlan, lost_mass, search_modes
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.pool import Pool
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.walks import n_steps
from helmflow.skeleton.run import Run
from helmflow.skeleton.weighted import Weighted

SHARE = 0.1
"""Of the energies that are left, and of the error that is asked for, the most that a search may
use, and the least mass that is of interest to it."""

FEWEST_PROBES, FEWEST_WALKS = 1024, 8
"""A search with less is none."""

FEW_DIMENSIONS, PROBES_THERE = 2, 16_384
"""Up to how many dimensions so many probes are enough."""

PER_MODE = 1024
"""Points of every local density that tell whether the samples cover it."""

SURE = 3.0
"""Standard errors by which mass must be above zero."""


def completed(
    u: CheckedPotential, learned: LearnedFlow, run: Run, plan: DensityPlan
) -> LearnedFlow:
    """The flow with the modes that it had lost; without a search where the budget allows none.

    Where the flow is poor, modes mixed with its base alone are tried first.
    """
    search = _affordable(u, plan.search, run.settings.target_error or math.inf)
    if search is None:
        return learned
    pool = Pool([learned.flow], u, search.draws, run.stream("judge of a flow"))
    if pool.ess_fraction(pool.log_q[0]) < POOR:
        architecture = Architecture(plain=True)
        flow, name = empty_flow(u.manifold, architecture, run.settings.seed, plan)
        plain = _with_search(u, LearnedFlow(flow, name, math.inf, None, architecture), search, run)
        both = [learned.flow, plain.density]
        if Pool(both, u, search.draws, run.stream("judge of modes")).best() == 1:
            return plain
    return _with_search(u, learned, search, run)


def _with_search(
    u: CheckedPotential, learned: LearnedFlow, search: SearchPlan, run: Run
) -> LearnedFlow:
    found = search_modes(u.manifold, u, learned.flow, search, run.stream("modes"))
    return with_modes(learned, found.modes, found.log_weights, found.unfinished)


def still_lost(
    u: CheckedPotential, learned: LearnedFlow, samples: Weighted, run: Run
) -> float | None:
    """The part of all mass that known modes hold and samples do not see; None if not known."""
    n = PER_MODE * len(learned.modes)
    if learned.unfinished is None or n > u.budget.left:
        return None
    if not learned.modes:
        return learned.unfinished
    log_z = -samples.estimate.value
    generator = run.stream("modes once more")
    modes, density = learned.modes, learned.density
    share, error = lost_mass(u, density, modes, log_z, PER_MODE, generator)
    log_w = torch.from_numpy(samples.log_w) - log_z
    seen = float(torch.where(log_w > LOST, log_w.exp(), 0.0).mean())
    return max(share - seen - SURE * error, learned.unfinished, 0.0)


def _affordable(u: CheckedPotential, plan: SearchPlan, goal: float) -> SearchPlan | None:
    """The plan, made smaller to fit into the budget; None where it would be too small."""
    probes = PROBES_THERE if u.manifold.dim <= FEW_DIMENSIONS else plan.probes
    walks = plan.walks
    matters = min(max(SHARE * goal, 1e-6), 1e-3)
    if math.isfinite(u.budget.left):
        most = SHARE * u.budget.left
        probes = min(probes, int(0.5 * most))
        walks = min(walks, int(0.25 * most / (plan.rounds * sum(n_steps(u.manifold.dim)))))
    if probes < FEWEST_PROBES or walks < FEWEST_WALKS:
        return None
    return replace(plan, probes=probes, walks=walks, matters=matters)
