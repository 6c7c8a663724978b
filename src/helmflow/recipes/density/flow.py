"""The flow that a density on a manifold is sampled with: fitted, kept, read again."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from helmflow.bijectors.base import Inverse
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.reference import UniformAndNormal
from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import Sphere
from helmflow.recipes.density.architecture import (
    Architecture,
    empty_flow,
    n_potential_maps,
    potential_map,
    symmetries,
)
from helmflow.recipes.density.potential import CheckedPotential
from helmflow.recipes.density.training import Report, trained_flow
from helmflow.results import RunDirectory
from helmflow.shapes import Configs
from helmflow.streams import stream
from helmflow.training.checkpoint import load, save
from helmflow.training.least_squares import LeastSquaresPlan
from helmflow.training.potential_fit import TemperingPlan, fit_potential
from helmflow.training.well_posedness import enforce_well_posedness, least_eigenvalues

FILE, TRAINING = "flow.safetensors", "training/stages.safetensors"
"""In the run directory: the fitted flow, and one whose training has begun."""

GOOD_ENOUGH = 1e-6
"""Divergence in nats at which a larger potential is not tried."""

POOR = 1e-2
"""Divergence of the best potential map above which a flow is trained, too."""

DEEPEST = 40.0
"""Nats below the mode at which the target of a fit is cut; weights never are."""

FRESH_POINTS = 16
"""Points per node at which a fitted map is tested for folding."""

REPAIRS, NEW_NODES, WORTH_IT = 4, 0.1, 0.1
"""Refits with the points where a map folded as nodes, their weight among the others, and the
divergence at the nodes up to which that is tried."""

FOLDED = 100.0
"""Added to the loss of a map that had to be weakened."""

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


def fit_flow(
    manifold: Manifold,
    u: CheckedPotential,
    seed: int,
    directory: RunDirectory | None,
    report: Report,
) -> FittedFlow:
    """The best flow known for a manifold, fitted to the density exp(-u) or read from a run.

    Implicit potential maps on S^2, S^3, T^1 and T^2, for which values of ``u`` are enough; trained
    flows elsewhere, and where no potential map comes close, through the gradient of ``u``. A
    ``directory`` keeps the flow as soon as it is fitted. Raises InputError for other manifolds.
    """
    file = None if directory is None else directory.path / FILE
    if directory is not None and (directory.path / FILE).is_file():
        return read_flow(directory, manifold, seed, u)
    start = symmetries(manifold, u, seed)
    best = _best_potential_map(manifold, u, start, seed, report)
    circle = isinstance(manifold, Sphere) and manifold.dim == 1
    poor = best is not None and best.loss > POOR and not circle
    if best is None or (poor and _differentiable(manifold, u, seed)):
        place = (None, {}) if directory is None else (directory.path / TRAINING, _of(directory))
        flow, name, loss, chosen = trained_flow(manifold, u, start, seed, place, report)
        if best is None or loss < best.loss:
            best = FittedFlow(flow, name, loss, None, chosen)
    if file is not None and directory is not None:
        _keep(file, best, u.n_evaluations, _of(directory))
    report(1.0, best.name)
    return best


def _best_potential_map(
    manifold: Manifold, u: CheckedPotential, start: Architecture, seed: int, report: Report
) -> FittedFlow | None:
    best = None
    n = n_potential_maps(manifold)
    for k in range(n):
        chosen = replace(start, size=k, angles="given")
        fitted = _fitted_map(manifold, u, chosen, seed, lambda text, k=k: report(k / n, text))
        # neither a potential that folds nor one that a larger one hardly betters is smooth
        hopeless = fitted.loss >= FOLDED or (best is not None and fitted.loss > 0.5 * best.loss)
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
    bijector, n_nodes, name = potential_map(manifold, chosen, seed)
    say(name)
    nodes, weights = manifold.quadrature(n_nodes)
    n_fresh, points = FRESH_POINTS * len(nodes), stream(seed, f"fresh {chosen.size}")
    share = NEW_NODES * float(weights.mean())
    plan = TemperingPlan(final=LeastSquaresPlan(max_steps=40))
    for _ in range(1 + REPAIRS):
        outcome = fit_potential(bijector, nodes, weights, _log_target(u(nodes)), plan)
        fresh = manifold.uniform(n_fresh, points)
        folded = fresh[least_eigenvalues(bijector, fresh) <= 0.0]
        least = enforce_well_posedness(bijector, fresh)
        if len(folded) == 0 or outcome.loss > WORTH_IT:
            break
        # the fit did not see these places: now it does, and starts where nothing folds
        nodes = torch.cat((nodes, folded))
        weights = torch.cat((weights, weights.new_full((len(folded),), share)))
        plan = TemperingPlan(powers=(1.0,), final=LeastSquaresPlan(max_steps=20))
    bijector.requires_grad_(requires_grad=False)
    # a map that folded between the nodes is weaker now than the loss there says
    loss = outcome.loss if least.before > 0.0 else FOLDED + outcome.loss
    flow = Flow(UniformAndNormal(manifold), Inverse(bijector))
    return FittedFlow(flow, name, loss, least.after, chosen)


def _log_target(potential: Tensor) -> Tensor:
    """The finite log density, mode at zero, that a flow can be asked to follow."""
    finite = torch.isfinite(potential)
    if not bool(finite.any()):
        raise InputError("potential", "a finite energy somewhere", "none at all nodes")
    log_p = (potential[finite].min() - potential).clamp_min(-DEEPEST)
    return torch.where(finite, log_p, log_p[finite].min() - WALL)


def _differentiable(manifold: Manifold, u: CheckedPotential, seed: int) -> bool:
    """Whether the energy is finite and has a gradient that says something, at a few points."""
    x = manifold.uniform(32, stream(seed, "gradient")).requires_grad_()
    value = u.differentiable(x)
    if not value.requires_grad or not bool(torch.isfinite(value).all()):
        return False
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return bool(torch.isfinite(gradient).all()) and bool((gradient != 0.0).any())


def _keep(file: Path, fitted: FittedFlow, n_evaluations: int, identity: dict[str, str]) -> None:
    least = fitted.least_eigenvalue
    header = {
        "architecture": fitted.architecture.to_json(),
        "loss": repr(fitted.loss),
        "least_eigenvalue": "" if least is None else repr(least),
        "energies": str(n_evaluations),
        **identity,
    }
    save(file, fitted.flow.bijector.state_dict(), header)


def read_flow(
    directory: RunDirectory, manifold: Manifold, seed: int, u: CheckedPotential
) -> FittedFlow:
    """The flow that a run keeps; raises InputError where there is none or another system's."""
    tensors, header = load(directory.path / FILE, _of(directory))
    chosen = Architecture.from_json(header["architecture"])
    flow, name = empty_flow(manifold, chosen, seed)
    flow.bijector.load_state_dict(tensors)
    flow.requires_grad_(requires_grad=False)
    u.n_evaluations = int(header["energies"])
    least = header["least_eigenvalue"]
    return FittedFlow(flow, name, float(header["loss"]), float(least) if least else None, chosen)


def _of(directory: RunDirectory) -> dict[str, str]:
    """What a file of this run must say of itself."""
    return {"system_digest": directory.digest}


def log_prob_in_parts(flow: Density, x: Configs, size: int = 8192) -> Tensor:
    """log q of many points without a graph and without a large temporary."""
    with torch.no_grad():
        return torch.cat([flow.log_prob(part) for part in x.split(size)])
