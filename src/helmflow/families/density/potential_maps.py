"""Implicit potential maps of one size after the other, fitted to a density."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import Inverse
from helmflow.bijectors.potential_map import PotentialMap
from helmflow.bijectors.potentials import LinearPotential
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import UniformAndNormal
from helmflow.errors import InputError
from helmflow.families.density.architecture import Architecture, potential_map
from helmflow.families.density.learned_flow import LearnedFlow, form_of
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.potential import CheckedPotential
from helmflow.shapes import Configs
from helmflow.skeleton.run import Run, Stage
from helmflow.training.least_squares import LeastSquaresPlan
from helmflow.training.potential_fit import (
    TemperingPlan,
    enforce_well_posedness,
    fit_potential,
    least_eigenvalues,
    potential_loss,
)

GOOD_ENOUGH = 1e-6
"""Divergence in nats at which a larger potential is not tried."""

POOR = 1e-2
"""Divergence of a potential map above which something else is tried, too."""

DEEPEST, SHALLOW = 40.0, 12.0
"""Nats below the mode at which the target of a fit is cut; weights never are. The second where
following the density so far down leads to a poor map: near a zero it would have to fold."""

FRESH_POINTS = 16
"""Points per node at which a fitted map is tested for folding."""

REPAIRS, NEW_NODES, WORTH_IT = 4, 0.1, 0.1
"""Refits with the points where a map folded as nodes, their weight among the others, and the
divergence at the nodes up to which that is tried."""

CLEAN = 6
"""Sets of fresh points after which a map that still folds on the next is left as it is."""

WALL = 3.0
"""Nats below the lowest finite log density that a fit takes for an infinite energy."""


def best_potential_map(
    u: CheckedPotential, start: Architecture, run: Run, plan: DensityPlan
) -> LearnedFlow | None:
    """The best of the potential maps for a manifold, or None where there are none.

    Larger ones are tried until one is good or hardly better than the one before.
    """
    form, best = form_of(u, run.settings.seed, plan), None
    for k in range(len(plan.sizes(u.manifold))):
        architecture = replace(start, size=k, angles="given")
        make = partial(_fitted_map, u, architecture, run, plan)
        fitted = run.once(f"potential map {k}", make, form)
        # a density that a larger map hardly comes closer to is not smooth
        hopeless = best is not None and fitted.loss > 0.5 * best.loss
        if best is None or fitted.loss < best.loss:
            best = fitted
        if best.loss < GOOD_ENOUGH or hopeless:
            break
    return best


def _fitted_map(
    u: CheckedPotential, architecture: Architecture, run: Run, plan: DensityPlan, _: Stage
) -> LearnedFlow:
    def fit(depth: float) -> LearnedFlow:
        bijector, name = potential_map(u.manifold, architecture, run.settings.seed, plan)
        fresh = run.stream(f"fresh {architecture.size}")
        loss, least = _fit(bijector, u, (nodes, weights, log_p), depth, fresh)
        flow = Flow(UniformAndNormal(u.manifold), Inverse(bijector))
        return LearnedFlow(flow, name, loss, least, architecture)

    sizes, k = plan.sizes(u.manifold), architecture.size or 0
    run.tell("flow", k / len(sizes), 1.0, f"implicit potential map {k + 1} of {len(sizes)}")
    nodes, weights = u.manifold.quadrature(int(sizes[k][-1]))
    log_p = _log_target(u(nodes))
    fitted = fit(DEEPEST)
    if fitted.loss <= POOR or bool((log_p > -SHALLOW).all()):
        return fitted
    return min(fitted, fit(SHALLOW), key=lambda learned: learned.loss)


def _fit(
    bijector: PotentialMap,
    u: CheckedPotential,
    target: tuple[Tensor, Tensor, Tensor],
    depth: float,
    generator: Generator,
) -> tuple[float, float]:
    """Fit a map at nodes with weights and log densities, and where it folds between them.

    Returns the loss and the least eigenvalue on fresh points.
    """
    nodes, weights, log_p = target
    n_fresh = FRESH_POINTS * len(nodes)
    share = NEW_NODES * float(weights.mean())
    plan = TemperingPlan(final=LeastSquaresPlan(max_steps=40))
    potential = bijector.potential
    if not isinstance(potential, LinearPotential):
        raise InputError("potential", "one that is linear", type(potential).__name__)
    coefficients = potential.coefficients
    best = (math.inf, coefficients.detach().clone(), -math.inf)
    for _ in range(1 + REPAIRS):
        fit_potential(bijector, nodes, weights, log_p.clamp_min(-depth), plan)
        folded, least = _unfolded(bijector, lambda: u.manifold.uniform(n_fresh, generator))
        loss = potential_loss(bijector, *target[:2], target[2].clamp_min(-depth))
        if loss < best[0]:
            best = (loss, coefficients.detach().clone(), least)
        if len(folded) == 0 or not GOOD_ENOUGH < loss < WORTH_IT:
            break
        # the fit did not see these places: now it does, and starts where nothing folds
        nodes = torch.cat((nodes, folded))
        weights = torch.cat((weights, weights.new_full((len(folded),), share)))
        log_p = _log_target(u(nodes))
        plan = TemperingPlan(powers=(1.0,), final=LeastSquaresPlan(max_steps=20))
    loss, coefficients_of_best, least = best
    with torch.no_grad():
        coefficients.copy_(coefficients_of_best)
    return loss, least


def _unfolded(bijector: PotentialMap, fresh: Callable[[], Configs]) -> tuple[Configs, float]:
    """Where a fitted map folded, and its least eigenvalue once weakened until it does not."""
    places = []
    for _ in range(CLEAN):
        points = fresh()
        folded = points[least_eigenvalues(bijector, points) <= 0.0]
        places.append(folded)
        least = enforce_well_posedness(bijector, points).after
        if len(folded) == 0:
            break
    return torch.cat(places), least


def _log_target(potential: Tensor) -> Tensor:
    """The log density, mode at zero, finite wherever a flow can be asked to follow it."""
    finite = torch.isfinite(potential)
    if not bool(finite.any()):
        raise InputError("potential", "a finite energy somewhere", "none at all nodes")
    log_p = (potential[finite].min() - potential).clamp_min(-DEEPEST)
    return torch.where(finite, log_p, log_p[finite].min() - WALL)
