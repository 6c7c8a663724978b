"""Implicit potential maps of one size after the other, fitted to a density."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from helmflow.bijectors.base import Inverse
from helmflow.bijectors.potential_map import PotentialMap
from helmflow.densities.flow import Flow
from helmflow.densities.reference import UniformAndNormal
from helmflow.errors import InputError
from helmflow.families.density.architecture import Architecture, n_potential_maps, potential_map
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.training import Report
from helmflow.manifolds.base import Manifold
from helmflow.shapes import Configs
from helmflow.streams import stream
from helmflow.training.least_squares import LeastSquaresPlan
from helmflow.training.potential_fit import TemperingPlan, fit_potential, potential_loss
from helmflow.training.well_posedness import enforce_well_posedness, least_eigenvalues

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


@dataclass(frozen=True)
class FittedFlow:
    """A flow, what to call it, and the loss at which its fit ended (about KL(q || p), nats).

    ``least_eigenvalue`` is that of the map on fresh points, None for other flows.
    """

    flow: Flow
    name: str
    loss: float
    least_eigenvalue: float | None
    architecture: Architecture


def best_potential_map(
    manifold: Manifold, u: CheckedPotential, start: Architecture, seed: int, report: Report
) -> FittedFlow | None:
    """The best of the potential maps for a manifold, or None where there are none.

    Larger ones are tried until one is good or hardly better than the one before.
    """
    best = None
    n = n_potential_maps(manifold)
    for k in range(n):
        chosen = replace(start, size=k, angles="given")
        fitted = _fitted_map(manifold, u, chosen, seed, lambda text, k=k: report(k / n, text))
        # a density that a larger map hardly comes closer to is not smooth
        hopeless = best is not None and fitted.loss > 0.5 * best.loss
        if best is None or fitted.loss < best.loss:
            best = fitted
        if best.loss < GOOD_ENOUGH or hopeless:
            break
    return best


def _fitted_map(
    manifold: Manifold,
    u: CheckedPotential,
    chosen: Architecture,
    seed: int,
    say: Callable[[str], None],
) -> FittedFlow:
    _, n_nodes, name = potential_map(manifold, chosen, seed)
    say(name)
    nodes, weights = manifold.quadrature(n_nodes)
    log_p = _log_target(u(nodes))
    fitted = _fit(manifold, u, chosen, seed, (nodes, weights, log_p), DEEPEST)
    if fitted.loss <= POOR or bool((log_p > -SHALLOW).all()):
        return fitted
    again = _fit(manifold, u, chosen, seed, (nodes, weights, log_p), SHALLOW)
    return min(fitted, again, key=lambda flow: flow.loss)


def _fit(
    manifold: Manifold,
    u: CheckedPotential,
    chosen: Architecture,
    seed: int,
    target: tuple[Tensor, Tensor, Tensor],
    depth: float,
) -> FittedFlow:
    """A map fitted at nodes with weights and log densities, and where it folds between them."""
    bijector, _, name = potential_map(manifold, chosen, seed)
    nodes, weights, log_p = target
    n_fresh, points = FRESH_POINTS * len(nodes), stream(seed, f"fresh {chosen.size}")
    share = NEW_NODES * float(weights.mean())
    plan = TemperingPlan(final=LeastSquaresPlan(max_steps=40))
    coefficients = bijector.potential.coefficients
    best = (math.inf, coefficients.detach().clone(), -math.inf)
    for _ in range(1 + REPAIRS):
        fit_potential(bijector, nodes, weights, log_p.clamp_min(-depth), plan)
        folded, least = _unfolded(bijector, lambda: manifold.uniform(n_fresh, points))
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
    loss, kept, least = best
    with torch.no_grad():
        coefficients.copy_(kept)
    bijector.requires_grad_(requires_grad=False)
    flow = Flow(UniformAndNormal(manifold), Inverse(bijector))
    return FittedFlow(flow, name, loss, least, chosen)


def _unfolded(bijector: PotentialMap, fresh: Callable[[], Configs]) -> tuple[Configs, float]:
    """Where a fitted map folded, and its least eigenvalue once weakened until it does not."""
    found = []
    for _ in range(CLEAN):
        points = fresh()
        folded = points[least_eigenvalues(bijector, points) <= 0.0]
        found.append(folded)
        least = enforce_well_posedness(bijector, points).after
        if len(folded) == 0:
            break
    return torch.cat(found), least


def _log_target(potential: Tensor) -> Tensor:
    """The log density, mode at zero, finite wherever a flow can be asked to follow it."""
    finite = torch.isfinite(potential)
    if not bool(finite.any()):
        raise InputError("potential", "a finite energy somewhere", "none at all nodes")
    log_p = (potential[finite].min() - potential).clamp_min(-DEEPEST)
    return torch.where(finite, log_p, log_p[finite].min() - WALL)
