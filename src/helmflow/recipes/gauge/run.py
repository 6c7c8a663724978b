"""ln Z and observables of a gauge theory: fit a flow, weigh its samples, check them."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.schwinger import Schwinger
from helmflow.energies.wilson import SUWilson
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.fep import fep
from helmflow.generalised_work import density_work
from helmflow.recipes.gauge.outcome import arrays_of_gauge, result_of_gauge
from helmflow.recipes.gauge.schwinger import SchwingerTheory
from helmflow.recipes.gauge.su import SUTheory
from helmflow.recipes.gauge.theory import FittedGauge, GaugeTheory
from helmflow.recipes.gauge.u1 import U1Theory
from helmflow.recipes.path.analysis import integrate
from helmflow.recipes.path.rounds import Progress
from helmflow.results import Event, Result, RunDirectory
from helmflow.settings import Settings
from helmflow.streams import stream
from helmflow.system import System
from helmflow.training.checkpoint import load, save

BATCH = 1024
LEAST_SAMPLES, MOST_SAMPLES = 8192, 131_072
FILE = "flow.safetensors"

THEORIES: Mapping[type, Callable[[System, Settings], GaugeTheory]] = MappingProxyType(
    {U1Wilson: U1Theory, SUWilson: SUTheory, Schwinger: SchwingerTheory}
)


@dataclass(frozen=True)
class WeighedLinks:
    """Samples of the flow, their log q and works (n,), and what was measured on them."""

    log_q: Tensor
    work: Tensor
    observed: Mapping[str, Tensor]
    some: Tensor
    estimate: Estimate


def run_gauge(
    system: System, settings: Settings, directory: RunDirectory | None, progress: Progress
) -> Result:
    """ln Z with its error and certificate, observables, and times of flow and baselines."""
    clock = (time.process_time(), time.time())
    if settings.method not in ("auto", "fep", "flow"):
        raise InputError("method", "auto, fep or flow for a gauge theory", settings.method)
    theory = theory_of(system, settings)

    def report(done: float, detail: str) -> None:
        progress(Event("flow", done, 1.0, detail, energy_evaluations=theory.n_evaluations))

    samples = theory.path(report)
    integral = None if samples is None else integrate(samples).estimate
    source = settings.flow.source
    if source is not None:
        fitted = theory.load(load_gauge_flow(Path(source), system))
    else:
        fitted = theory.fit(samples, report)
    if directory is not None:
        save_gauge_flow(directory.path / FILE, fitted, system)
    weighed = weigh(fitted.flow, theory, settings, progress)
    progress(Event("cross-check", 0.0, 1.0, energy_evaluations=theory.n_evaluations))
    baselines = theory.baselines()
    spent = (time.process_time() - clock[0], time.time() - clock[1])
    result, chain = result_of_gauge(theory, fitted, weighed, integral, baselines, spent)
    if directory is not None:
        directory.write_work(arrays_of_gauge(weighed, chain, baselines))
        directory.write_result(result)
    progress(Event("cross-check", 1.0, 1.0, "", result.value, result.stderr, theory.n_evaluations))
    return result


def theory_of(system: System, settings: Settings) -> GaugeTheory:
    """The theory of a system's energy; InputError for an energy that is none."""
    for kind, build in THEORIES.items():
        if isinstance(system.energy, kind):
            return build(system, settings)
    raise InputError("potential.kind", "a gauge theory", type(system.energy).__name__)


def weigh(
    flow: Density, theory: GaugeTheory, settings: Settings, progress: Progress
) -> WeighedLinks:
    """Draw from the flow until ln Z is known well enough, in rounds that double."""
    generator = stream(settings.seed, "samples")
    goal = settings.target_error or math.inf
    parts: list[tuple[Tensor, Tensor, Mapping[str, Tensor]]] = []
    wanted, some = LEAST_SAMPLES, torch.empty(0)
    while True:
        while len(parts) * BATCH < wanted:
            with torch.no_grad():
                x, log_q = flow.sample_and_log_prob(BATCH, generator)
                parts.append((log_q, density_work(x, log_q, theory.u), theory.observables(x)))
            some = x
        log_q, work = (torch.cat([part[k] for part in parts]) for k in (0, 1))
        estimate = fep(work.numpy())
        exhausted = 2 * wanted > min(MOST_SAMPLES, settings.max_evaluations or MOST_SAMPLES)
        done = min(1.0, goal / max(estimate.stderr, 1e-300))
        progress(
            Event(
                "sampling", done, 1.0, "", -estimate.value, estimate.stderr, theory.n_evaluations
            )
        )
        if estimate.stderr <= goal or exhausted:
            names = parts[0][2]
            observed = {name: torch.cat([part[2][name] for part in parts]) for name in names}
            return WeighedLinks(log_q, work, observed, some[:64], estimate)
        wanted *= 2


def save_gauge_flow(path: Path, fitted: FittedGauge, system: System) -> None:
    """Write the tensors of a flow and which theory they belong to."""
    save(path, fitted.tensors, _identity(system) | {"system": system.name})


def load_gauge_flow(path: Path, system: System) -> Mapping[str, Tensor]:
    """Tensors of a flow of the same theory at this or another size, from a file or a run.

    Raises InputError for other files and theories.
    """
    file = path / FILE if path.is_dir() else path
    try:
        return load(file, _identity(system))[0]
    except InputError as error:
        raise InputError("flow", "a flow of this theory and version", error) from error


def _identity(system: System) -> dict[str, str]:
    kind = type(system.energy).__name__
    return {"flow": f"gauge {kind}", "version": metadata.version("helmflow")}
