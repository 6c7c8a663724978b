"""ln Z and observables of a gauge theory: fit a flow, weigh its samples, check them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.schwinger import Schwinger
from helmflow.energies.wilson import SingleLink, SUWilson
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.families.gauge.outcome import arrays_of_gauge, result_of_gauge
from helmflow.families.gauge.schwinger import SchwingerTheory
from helmflow.families.gauge.single_link import SingleLinkTheory
from helmflow.families.gauge.su import SUTheory
from helmflow.families.gauge.theory import FittedGauge, GaugeTheory, Report, ess_against_volume
from helmflow.families.gauge.u1 import U1Theory
from helmflow.families.path.rounds import Progress
from helmflow.families.weighing import Clock, Columns, Rounds, weighed
from helmflow.generalised_work import density_work
from helmflow.results import Event, Result, RunDirectory
from helmflow.settings import Settings
from helmflow.system import System
from helmflow.training.checkpoint import load, save

BATCH = 1024
LEAST_SAMPLES, MOST_SAMPLES = 8192, 131_072
FILE, TRAINING = "flow.safetensors", "training/state.safetensors"
"""In the run directory: the flow once it is fitted, and one whose training has begun."""

OBSERVED = "observed_"
COUPLINGS = ("n_colours", "beta", "coefficients", "kappa")
"""What an action may depend on besides the extents; see `identity_of`."""

THEORIES: Mapping[type, Callable[[System, Settings], GaugeTheory]] = MappingProxyType(
    {
        U1Wilson: U1Theory,
        SUWilson: SUTheory,
        SingleLink: SingleLinkTheory,
        Schwinger: SchwingerTheory,
    }
)


@dataclass(frozen=True)
class WeighedLinks:
    """Samples of the flow: their log q and works (n,), and what was measured on them."""

    log_q: Tensor
    work: Tensor
    observed: Mapping[str, Tensor]
    estimate: Estimate


def run_gauge(
    system: System, settings: Settings, directory: RunDirectory | None, progress: Progress
) -> Result:
    """ln Z with its error and certificate, observables, and times of flow and baselines.

    A ``directory`` keeps the flow once it is fitted, the state of a training and every round of
    samples: an interrupted run goes on there and ends with the same numbers.
    """
    clock = Clock()
    if settings.method not in ("auto", "fep", "flow"):
        raise InputError("method", "auto, fep or flow for a gauge theory", settings.method)
    theory = theory_of(system, settings)

    def report(done: float, detail: str) -> None:
        progress(Event("flow", done, 1.0, detail, energy_evaluations=theory.n_evaluations))

    fitted, integral = prepared(theory, directory, report)
    links = weigh(fitted.flow, theory, settings, directory, clock, progress)
    progress(Event("cross-check", 0.0, 1.0, energy_evaluations=theory.n_evaluations))
    baselines = theory.baselines()
    volumes = ess_against_volume(theory, fitted)
    result, chain = result_of_gauge(theory, fitted, links, integral, baselines, clock.spent())
    if directory is not None:
        arrays = arrays_of_gauge(links, chain, baselines.series)
        directory.write_work({**arrays, "ess_against_volume": volumes})
        directory.write_result(result)
    progress(Event("cross-check", 1.0, 1.0, "", result.value, result.stderr, theory.n_evaluations))
    return result


def prepared(
    theory: GaugeTheory, directory: RunDirectory | None, report: Report
) -> tuple[FittedGauge, Estimate | None]:
    """The flow, and -ln Z by integration where there is a path; read if the run has got so far."""
    own = None if directory is None else directory.path / FILE
    if own is not None and own.is_file():
        tensors, header = load(own, identity_of(theory.system))
        fitted = theory.load(tensors)
        theory.n_evaluations = int(header["energies"])
        return fitted, _estimate(header["integral"])
    source = theory.settings.flow.source
    reused = None
    if source is not None:  # read before anything is sampled: it may not fit
        reused = theory.load(load_gauge_flow(Path(source), theory.system))
    samples = theory.path(report)
    integral = None if samples is None else thermodynamic_integration(samples).estimate
    if reused is not None:
        fitted = reused
    else:
        training = None if directory is None else directory.path / TRAINING
        fitted = theory.fit(samples, report, training)
    if own is not None:
        header = {"energies": str(theory.n_evaluations), "integral": _text(integral)}
        save_gauge_flow(own, fitted, theory.system, header)
    return fitted, integral


def theory_of(system: System, settings: Settings) -> GaugeTheory:
    """The theory of a system's energy; InputError for an energy that is none."""
    for kind, build in THEORIES.items():
        if isinstance(system.energy, kind):
            return build(system, settings)
    raise InputError("potential.kind", "a gauge theory", type(system.energy).__name__)


def weigh(
    flow: Density,
    theory: GaugeTheory,
    settings: Settings,
    directory: RunDirectory | None,
    clock: Clock,
    progress: Progress,
) -> WeighedLinks:
    """Draw from the flow until ln Z is known well enough, in rounds that double."""

    def draw(n: int, generator: Generator) -> Columns:
        x, log_q = flow.sample_and_log_prob(n, generator)
        columns = {"log_q": log_q, "work": density_work(x, log_q, theory.u)}
        found = enumerate(theory.observables(x).items())
        return columns | {f"{OBSERVED}{k}_{name}": values for k, (name, values) in found}

    rounds = Rounds(BATCH, LEAST_SAMPLES, MOST_SAMPLES)
    columns, estimate = weighed(draw, rounds, theory, settings, directory, clock, progress)
    # files do not keep an order, the numbers do
    numbered = sorted(name for name in columns if name.startswith(OBSERVED))
    observed = {name.split("_", 2)[2]: columns[name] for name in numbered}
    return WeighedLinks(columns["log_q"], columns["work"], observed, estimate)


def gauge_proposals(
    system: System, directory: RunDirectory, settings: Settings, n: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """n configurations of links from the flow that a run keeps, and their log weights (n,)."""
    theory = theory_of(system, settings)
    flow = theory.load(load(directory.path / FILE, identity_of(system))[0]).flow
    parts, weights = [], []
    for start in range(0, n, BATCH):
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(min(BATCH, n - start), generator)
        parts.append(x)
        weights.append(-density_work(x, log_q, theory.u))
    return torch.cat(parts), torch.cat(weights)


def save_gauge_flow(
    path: Path, fitted: FittedGauge, system: System, header: Mapping[str, str]
) -> None:
    """Write the tensors of a flow and which theory they belong to."""
    save(path, fitted.tensors, {**identity_of(system), "system": system.name, **header})


def load_gauge_flow(path: Path, system: System) -> Mapping[str, Tensor]:
    """Tensors of a flow of the same theory at this or another size, from a file or a run.

    Raises InputError for other files and theories, and for weights that are not finite.
    """
    file = path / FILE if path.is_dir() else path
    try:
        tensors = load(file, identity_of(system))[0]
    except InputError as error:
        raise InputError("flow", "a flow of this theory and version", error) from error
    broken = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise InputError("flow", "finite weights", f"{broken[0]} of {file}")
    return tensors


def identity_of(system: System) -> dict[str, str]:
    """What a file must say to hold a flow of this theory."""
    kind = type(system.energy).__name__
    action = {name: getattr(system.energy, name, None) for name in COUPLINGS}
    action["beta"] = system.beta * system.energy.beta
    # a temperature other than one acts on fermions too
    action["state"] = system.beta if action["kappa"] is not None else None
    known = {name: value for name, value in action.items() if value is not None}
    return {
        "flow": f"gauge {kind}",
        "couplings": json.dumps(known),
        "version": metadata.version("helmflow"),
    }


def _text(integral: Estimate | None) -> str:
    return "" if integral is None else json.dumps(asdict(integral))


def _estimate(text: str) -> Estimate | None:
    return Estimate(**json.loads(text)) if text else None
