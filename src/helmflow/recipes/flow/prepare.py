"""``method = "flow"``: exact samples and free energies by a flow, cross-checked without it."""

from dataclasses import dataclass
from pathlib import Path

from helmflow.bijectors.base import Bijector, Chain
from helmflow.bijectors.transport import Transport
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.fields.potential import HarmonicField
from helmflow.recipes.flow.coupling import (
    lattice_base,
    neighbour_couplings,
    published_couplings,
    train_flow,
)
from helmflow.recipes.flow.coupling_files import load_bijector, save_bijector
from helmflow.recipes.flow.transport import (
    FILE,
    PathSamples,
    fit_coefficients,
    load_flow,
    sample_path,
    save_flow,
    with_enough_steps,
)
from helmflow.recipes.path.crystal import Crystal
from helmflow.recipes.path.problem import Problem
from helmflow.recipes.path.rounds import Progress
from helmflow.results import Event, RunDirectory
from helmflow.settings import Settings

COUPLINGS = "couplings.safetensors"
TRAINING = "training"
"""Folder of a run directory that holds the checkpoints of trained couplings."""


@dataclass(frozen=True)
class PreparedFlow:
    """A flow ready to be sampled, and samples that know nothing of it."""

    flow: Density
    transport: Transport | None  # the fitted part of it
    bijector: Bijector
    path: PathSamples
    name: str


def prepare_flow(
    problem: Problem,
    base: Gaussian,
    settings: Settings,
    goal: float,
    directory: RunDirectory | None,
    progress: Progress,
) -> PreparedFlow:
    """Sample the path, then fit, train or read the flow; keep it in the run directory.

    ``goal``: error asked for, kT for the whole system. Raises InputError for flows that do not
    belong to this system.
    """

    def burnt(done: int, total: int) -> None:
        progress(_event(problem, "path", done, total, "chains from base to target"))

    kind, transport = settings.flow.kind, None
    if kind != "transport" and not isinstance(problem, Crystal):
        raise InputError("flow.kind", '"transport" for a lattice field', kind)
    source = None if settings.flow.source is None else Path(settings.flow.source)
    if directory is not None and (directory.path / FILE).is_file():
        source = directory.path  # resumed: its own copy, whatever has become of the source
    if source is not None and kind == "transport":
        transport = load_flow(source, problem, base)
    fields = problem.transport_fields(base)
    path = sample_path(problem, base, [HarmonicField(base.dim), *fields], settings, burnt)
    progress(_event(problem, "path", 1, 1))
    if transport is None and "transport" in (kind, settings.flow.start):
        found = fit_coefficients(path.samples)
        transport = Transport(base, fields, found.coefficients, n_steps=1)
    if transport is not None:
        transport = with_enough_steps(transport, problem, base, settings, goal)
        if directory is not None:
            save_flow(directory.path / FILE, problem, transport)
    if transport is not None and kind == "transport":
        return PreparedFlow(Flow(base, transport), transport, transport, path, "transport flow")
    start = _start(problem, base, transport, settings)
    flow, bijector = _trained(problem, start, settings, directory, progress)
    whole = bijector if transport is None else Chain([transport, bijector])
    return PreparedFlow(flow, transport, whole, path, f"{kind} flow")


def _trained(
    problem: Crystal,
    start: Density,
    settings: Settings,
    directory: RunDirectory | None,
    progress: Progress,
) -> tuple[Flow, Bijector]:
    file = None if directory is None else directory.path / COUPLINGS
    if settings.flow.source is not None:
        bijector = load_bijector(_couplings_file(Path(settings.flow.source)), problem, start)
        flow = Flow(start, bijector)
    else:
        if settings.flow.kind == "local":
            bijector = neighbour_couplings(problem, start, settings.network)
        else:
            bijector = published_couplings(problem, settings.network)
        flow = train_flow(
            problem,
            start,
            bijector,
            settings.training,
            seed=settings.seed,
            directory=None if directory is None else directory.path / TRAINING,
            progress=progress,
        )
    if file is not None:
        save_bijector(file, bijector, problem, settings.network)
    return flow.requires_grad_(False), bijector


def _couplings_file(source: Path) -> Path:
    return source / COUPLINGS if source.is_dir() else source


def _event(problem: Problem, stage: str, done: float, total: float, detail: str = "") -> Event:
    return Event(stage, done, total, detail, energy_evaluations=problem.n_evaluations)


def stored_flow(problem: Problem, base: Gaussian, settings: Settings, path: Path) -> Density:
    """The flow that a run with these settings keeps in its directory ``path``."""
    kind, transport = settings.flow.kind, None
    if kind == "transport" or settings.flow.start == "transport":
        transport = load_flow(path, problem, base)
    if kind == "transport" and transport is not None:
        return Flow(base, transport)
    if not isinstance(problem, Crystal):
        raise InputError("flow.kind", '"transport" for a lattice field', kind)
    start = _start(problem, base, transport, settings)
    return Flow(start, load_bijector(path / COUPLINGS, problem, start)).requires_grad_(False)


def _start(
    problem: Crystal, base: Gaussian, transport: Transport | None, settings: Settings
) -> Density:
    """What trained couplings act on."""
    if settings.flow.start == "lattice":
        return lattice_base(problem, base.covariance.diagonal().mean().sqrt().item())
    return base if transport is None else Flow(base, transport)
