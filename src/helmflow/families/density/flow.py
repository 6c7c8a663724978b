"""The flow that a density on a manifold is sampled with: fitted, kept, read again."""

from pathlib import Path

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.families.density.architecture import Architecture, empty_flow, symmetries
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.potential_maps import POOR, FittedFlow, best_potential_map
from helmflow.families.density.training import Report, has_gradient, trained_flow
from helmflow.manifolds.base import Manifold
from helmflow.results import RunDirectory
from helmflow.shapes import Configs
from helmflow.streams import stream
from helmflow.training.checkpoint import load, save

FILE, TRAINING = "flow.safetensors", "training/stages.safetensors"
"""In the run directory: the fitted flow, and one whose training has begun."""


def fit_flow(
    manifold: Manifold,
    u: CheckedPotential,
    seed: int,
    directory: RunDirectory | None,
    report: Report,
) -> FittedFlow:
    """The best flow known for a manifold, fitted to the density exp(-u) or read from a run.

    Implicit potential maps where the manifold has some, for which values of ``u`` are enough;
    trained flows elsewhere, and where no potential map comes close, through the gradient of ``u``.
    A ``directory`` keeps the flow as soon as it is fitted.
    """
    file = None if directory is None else directory.path / FILE
    if directory is not None and (directory.path / FILE).is_file():
        return read_flow(directory, manifold, seed, u)
    start = symmetries(manifold, u, seed)
    best = best_potential_map(manifold, u, start, seed, report)
    poor = best is not None and best.loss > POOR
    if best is None or (poor and has_gradient(u, manifold.uniform(32, stream(seed, "gradient")))):
        place = (None, {}) if directory is None else (directory.path / TRAINING, _of(directory))
        flow, name, loss, chosen = trained_flow(manifold, u, start, seed, place, report)
        if best is None or loss < best.loss:
            best = FittedFlow(flow, name, loss, None, chosen)
    if file is not None and directory is not None:
        _keep(file, best, u.n_evaluations, _of(directory))
    report(1.0, best.name)
    return best


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
