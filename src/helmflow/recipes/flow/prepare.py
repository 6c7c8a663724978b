"""``method = "flow"``: exact samples and free energies by a flow, cross-checked without it."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from helmflow.bijectors.base import Bijector, Chain
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.recipes.flow.coupling import (
    lattice_base,
    neighbour_couplings,
    published_couplings,
    train_flow,
)
from helmflow.recipes.flow.coupling_files import load_bijector, save_bijector
from helmflow.recipes.flow.field_files import FILE as FIELD_FLOW
from helmflow.recipes.flow.field_files import (
    KINDS,
    load_field_flow,
    save_field_flow,
    training_evaluations,
)
from helmflow.recipes.flow.field_flow import train_field_flow, with_enough_steps
from helmflow.recipes.flow.transport import (
    FILE,
    PathSamples,
    fields_of,
    fit_coefficients,
    load_flow,
    sample_path,
    save_flow,
    transport_flow,
)
from helmflow.recipes.flow.transport import with_enough_steps as transport_with_enough_steps
from helmflow.recipes.path.crystal import Crystal
from helmflow.recipes.path.lattice import LatticeField
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
    transport: FittedFlow | None  # the fitted part of it
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

    kind, transport = settings.flow.kind or "transport", None
    if isinstance(problem, LatticeField) and kind != "transport":
        return _prepare_field(problem, base, settings, goal, directory, progress)
    if kind == "continuous":
        raise InputError("flow.kind", "transport, coupling or local for a crystal", kind)
    source = None if settings.flow.source is None else Path(settings.flow.source)
    if source is not None and directory is not None and (directory.path / FILE).is_file():
        source = directory.path  # resumed: its own copy, whatever has become of the source
    if source is not None and kind == "transport":
        transport = load_flow(source, problem, base)
    fields = None if transport is None else fields_of(transport)
    path = sample_path(problem, base, settings, burnt, fields)
    progress(_event(problem, "path", 1, 1))
    if transport is None and "transport" in (kind, settings.flow.start):
        found = fit_coefficients(path.samples)
        transport = transport_flow(base, path.fields, found.coefficients, 1)
    if transport is not None:
        transport = transport_with_enough_steps(transport, problem, base, settings, goal)
        if directory is not None:
            save_flow(directory.path / FILE, problem, transport)
    if transport is not None and kind == "transport":
        return PreparedFlow(Flow(base, transport), transport, transport, path, "transport flow")
    start = _start(problem, base, transport, settings)
    flow, bijector = _trained(problem, start, path.target, settings, directory, progress)
    whole = bijector if transport is None else Chain([transport, bijector])
    return PreparedFlow(flow, transport, whole, path, f"{kind} flow")


def _prepare_field(
    problem: LatticeField,
    base: Gaussian,
    settings: Settings,
    goal: float,
    directory: RunDirectory | None,
    progress: Progress,
) -> PreparedFlow:
    """A flow of its own base, trained here or read from a run at this or another extent."""
    kind, own = str(settings.flow.kind), None if directory is None else directory.path
    if kind not in KINDS:
        raise InputError("flow.kind", f"transport, {' or '.join(KINDS)} for a field", repr(kind))
    source = None if settings.flow.source is None else Path(settings.flow.source)
    resumed = own is not None and (own / FIELD_FLOW).is_file()
    if resumed:
        source = own
    flow = None if source is None else load_field_flow(source, problem, kind)

    def burnt(done: int, total: int) -> None:
        progress(_event(problem, "path", done, total, "chains from base to target"))

    path = sample_path(problem, base, settings, burnt)
    spent = training_evaluations(own) if own is not None and resumed else 0
    problem.n_evaluations += spent
    if flow is None:
        before = problem.n_evaluations
        kept = None if own is None else own / TRAINING
        flow = train_field_flow(problem, base, settings, kept, progress)
        spent = problem.n_evaluations - before
    flow = with_enough_steps(flow, problem, settings, goal)
    if own is not None:
        network = settings.network
        file = own / FIELD_FLOW
        save_field_flow(file, flow, problem, kind, network, n_evaluations=spent)
    return PreparedFlow(flow, None, flow.bijector, path, f"{kind} flow")


def _trained(
    problem: Crystal,
    start: Density,
    samples: Tensor,
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
            samples=samples,
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
    kind, transport = settings.flow.kind or "transport", None
    if isinstance(problem, LatticeField) and kind != "transport":
        return load_field_flow(path, problem, kind)
    if kind == "transport" or settings.flow.start == "transport":
        transport = load_flow(path, problem, base)
    if kind == "transport" and transport is not None:
        return Flow(base, transport)
    if not isinstance(problem, Crystal):
        raise InputError("flow.kind", '"transport" for a lattice field', kind)
    start = _start(problem, base, transport, settings)
    return Flow(start, load_bijector(path / COUPLINGS, problem, start)).requires_grad_(False)


def _start(
    problem: Crystal, base: Gaussian, transport: FittedFlow | None, settings: Settings
) -> Density:
    """What trained couplings act on."""
    if settings.flow.start == "lattice":
        return lattice_base(problem, base.covariance.diagonal().mean().sqrt().item())
    return base if transport is None else Flow(base, transport)
