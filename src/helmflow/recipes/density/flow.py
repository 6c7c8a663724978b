"""The flow that a density on a manifold is sampled with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from helmflow.bijectors.base import Inverse
from helmflow.bijectors.potential_map import PotentialMap, SpherePotentialMap, TorusPotentialMap
from helmflow.bijectors.potentials import FourierPotential, RadialPotential
from helmflow.bijectors.radial_centres import spread_points
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import Sphere
from helmflow.manifolds.torus import Torus
from helmflow.recipes.density.training import trained_flow
from helmflow.shapes import Configs, Values
from helmflow.training.least_squares import LeastSquaresPlan
from helmflow.training.potential_fit import TemperingPlan, fit_potential
from helmflow.training.well_posedness import enforce_well_posedness

ReducedPotential = Callable[[Configs], Values]
Report = Callable[[float, str], None]
"""Called with the fraction done and what is being done."""

GOOD_ENOUGH = 1e-6
"""Divergence in nats at which a larger potential is not tried."""

DEEPEST = 40.0
"""Nats below the mode at which the target of a fit is cut; weights never are."""

FRESH_POINTS = 16
"""Points per node at which a fitted map is tested for folding."""

FOLDED = 100.0
"""Added to the loss of a map that had to be weakened."""

WALL = 3.0
"""Nats below the lowest finite log density that a fit takes for an infinite energy."""

TORUS_SIZES = {1: ((8, 64), (24, 192)), 2: ((6, 24), (10, 48), (16, 64))}
"""By dimension: radius in Fourier space, and nodes per angle."""

SPHERE_SIZES = {
    2: ((100, 4.0, 16), (200, 6.0, 20), (400, 10.0, 40)),
    3: ((300, 6.0, 12), (700, 8.0, 16)),
}
"""By dimension: centres, their sharpness, and nodes per height."""


@dataclass(frozen=True)
class FittedFlow:
    """A flow, what to call it, and the loss at which its fit ended (about KL(q || p), nats).

    ``least_eigenvalue`` is that of the map on fresh points, None for other flows.
    """

    flow: Density
    name: str
    loss: float
    least_eigenvalue: float | None


def fit_flow(
    manifold: Manifold,
    u: ReducedPotential,
    differentiable: ReducedPotential,
    generator: torch.Generator,
    report: Report,
) -> FittedFlow:
    """The best flow known for a manifold, fitted to the density exp(-u).

    Implicit potential maps on S^2, S^3, T^1 and T^2, for which values of ``u`` are enough; trained
    flows on larger tori and spheres, through the gradient of ``differentiable``, the same
    function. Raises InputError for other manifolds.
    """
    best = None
    candidates = list(_candidates(manifold, generator))
    for k, (bijector, n_nodes, name) in enumerate(candidates):
        report(k / len(candidates), name)
        fitted = _fit(bijector, manifold, n_nodes, u, generator, name)
        if best is None or fitted.loss < best.loss:
            best = fitted
        # a potential that folds is no smoother for being larger
        if best.loss < GOOD_ENOUGH or fitted.loss >= FOLDED:
            break
    if best is None:
        best = FittedFlow(*trained_flow(manifold, differentiable, generator, report), None)
    report(1.0, best.name)
    return best


def _candidates(
    manifold: Manifold, generator: torch.Generator
) -> Iterator[tuple[PotentialMap, int, str]]:
    dim = manifold.dim
    if isinstance(manifold, Torus):
        for radius, nodes in TORUS_SIZES.get(dim, ()):
            potential = FourierPotential(dim, radius)
            name = f"implicit potential map, {len(potential.coefficients)} Fourier coefficients"
            yield TorusPotentialMap(potential, dim), nodes, name
    if isinstance(manifold, Sphere):
        for size, sharpness, nodes in SPHERE_SIZES.get(dim, ()):
            centres = spread_points(manifold, size, generator)
            name = f"implicit potential map, {size} centres"
            yield SpherePotentialMap(RadialPotential(centres, sharpness), dim), nodes, name


def _fit(
    bijector: PotentialMap,
    manifold: Manifold,
    n_nodes: int,
    u: ReducedPotential,
    generator: torch.Generator,
    name: str,
) -> FittedFlow:
    nodes, weights = manifold.quadrature(n_nodes)
    plan = TemperingPlan(final=LeastSquaresPlan(max_steps=40))
    outcome = fit_potential(bijector, nodes, weights, _log_target(u(nodes)), plan)
    bijector.requires_grad_(requires_grad=False)
    fresh = manifold.uniform(FRESH_POINTS * len(nodes), generator)
    least = enforce_well_posedness(bijector, fresh)
    # a map that folded between the nodes is weaker now than the loss there says
    loss = outcome.loss if least.before > 0.0 else FOLDED + outcome.loss
    return FittedFlow(Flow(Uniform(manifold), Inverse(bijector)), name, loss, least.after)


def _log_target(potential: Tensor) -> Tensor:
    """The finite log density, mode at zero, that a flow can be asked to follow."""
    finite = torch.isfinite(potential)
    if not bool(finite.any()):
        raise InputError("potential", "a finite energy somewhere", "none at all nodes")
    log_p = (potential[finite].min() - potential).clamp_min(-DEEPEST)
    return torch.where(finite, log_p, log_p[finite].min() - WALL)


def log_prob_in_parts(flow: Density, x: Tensor, size: int = 8192) -> Tensor:
    """log q of many points without a graph and without a large temporary."""
    with torch.no_grad():
        return torch.cat([flow.log_prob(part) for part in x.split(size)])
