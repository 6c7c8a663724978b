"""Trained flows of lattice fields: built, trained, integrated finely enough."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from helmflow.bijectors.checkerboard import checkerboard_couplings
from helmflow.bijectors.scored_flow import ScoredFlow
from helmflow.bijectors.sine_flow import SineFlow
from helmflow.densities.flow import Flow
from helmflow.densities.free_field import FreeField
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.objectives import with_known_gradient
from helmflow.objectives.carried_score import carried_score_reverse_kl
from helmflow.objectives.known_gradient import ValueAndGradient
from helmflow.recipes.flow.training_losses import training_loss
from helmflow.recipes.path.lattice import LatticeField
from helmflow.results import Event
from helmflow.settings import NetworkSettings, Settings, TrainingSettings
from helmflow.shapes import Configs, Values
from helmflow.streams import stream
from helmflow.training.integrator_steps import Works, enough_steps, step_bias, works_on
from helmflow.training.metrics import MetricsFile
from helmflow.training.micro_batches import Loss
from helmflow.training.plan import DivergenceError, StepReport, TrainingPlan
from helmflow.training.schedule import Cosine
from helmflow.training.stochastic import train
from helmflow.training.validation import measure

POWERS = (0.1, 0.25, 0.5, 0.75, 1.0)
"""The target is reached in stages: u = (1 - s) u_base + s S."""

FIRST_STAGES = 0.08
"""Part of all steps that each stage but the last takes."""

DEFAULTS = {"continuous": (500, 3e-3), "coupling": (1500, 5e-3)}
"""Steps and learning rate where the settings leave them open."""

CAUTION = (1.0, 0.3, 0.1)
"""Factors on the learning rate, tried in turn while training diverges."""

LARGEST_REACH = 6
TRAINING_STEPS = 8
STEPS = (8, 12, 16, 24, 32, 48, 64)
"""Runge-Kutta steps in training, and those to choose from afterwards."""

STEP_SAMPLES = 128
PRECISION = {"single": torch.float32, "double": torch.float64}
VALIDATION_SAMPLES = 2048

Progress = Callable[[Event], None]


def build_field_flow(
    shape: tuple[int, int],
    kind: str,
    network: NetworkSettings,
    *,
    reach: int,
    isotropic: bool,
    scale: float = 1.0,
    generator: Generator | None = None,
) -> Flow:
    """An untrained flow of fields (batch, V) on a free field of unit spectrum."""
    base = FreeField(shape, KernelOrbits(reach, isotropic=isotropic))
    if kind == "continuous":
        features = network.width or 6
        flow = SineFlow(
            shape, base.orbits, n_features=features, scale=scale, n_steps=TRAINING_STEPS
        )
        return Flow(base, flow)
    if kind != "coupling":
        raise InputError("flow.kind", "continuous, coupling or transport for a field", repr(kind))
    generator = generator or stream(0, "network")
    layers = network.layers or 8
    bijector = checkerboard_couplings(
        shape, reach, generator, n_layers=layers, isotropic=isotropic
    )
    return Flow(base, bijector)


def fresh_field_flow(problem: LatticeField, base: Gaussian, settings: Settings) -> Flow:
    """The flow that training starts from: the Gaussian ``base``, unchanged or nearly so."""
    shape = problem.shape
    flow = build_field_flow(
        shape,
        str(settings.flow.kind),
        settings.network,
        reach=min(max(max(shape) // 2, 1), LARGEST_REACH),
        isotropic=problem.isotropic,
        scale=base.covariance[0, 0].sqrt().item(),
        generator=stream(settings.seed, "network"),
    )
    flow.base.set_spectrum(torch.fft.fft2(base.precision[0].view(shape)).real)
    return flow


def train_field_flow(
    problem: LatticeField,
    base: Gaussian,
    settings: Settings,
    directory: Path | None,
    progress: Progress,
) -> Flow:
    """Train a flow towards a field theory from its action alone, in double precision afterwards.

    Stages with s rising to one keep the flow near its target throughout; should training diverge
    all the same, it starts again with a smaller learning rate. Raises ``DivergenceError`` if that
    does not help, and what ``helmflow.training.stochastic.train`` raises.
    """
    for attempt, caution in enumerate(CAUTION):
        flow = fresh_field_flow(problem, base, settings)
        kept = None if directory is None else directory / f"attempt_{attempt}"
        try:
            _train(problem, base, flow, settings, caution, kept, progress)
        except DivergenceError:
            if caution == CAUTION[-1]:
                raise
            continue
        break
    return flow.to(torch.float64).requires_grad_(False)


def _train(
    problem: LatticeField,
    base: Gaussian,
    flow: Flow,
    settings: Settings,
    caution: float,
    directory: Path | None,
    progress: Progress,
) -> None:
    flow.to(PRECISION[settings.network.precision])
    stages = _stages(settings.training, str(settings.flow.kind), caution)
    listener = _Listener(problem, sum(plan.steps for _, plan in stages), directory, progress)
    exact = with_known_gradient(problem.target)
    spent = problem.n_evaluations
    for k, (power, plan) in enumerate(stages):
        train(
            flow,
            _loss(flow, _tempered(problem, base, power), settings.training),
            plan,
            stream(settings.seed, f"training, stage {k}"),
            report=listener,
            checkpoint=None if directory is None else directory / f"stage_{k}.safetensors",
            validate=None
            if power < 1.0
            else lambda: measure(
                flow, exact, VALIDATION_SAMPLES, stream(settings.seed, "validation")
            ),
            identity={
                "system": problem.system.digest,
                "seed": str(settings.seed),
                "training": settings.training.model_dump_json(),
            },
        )
        listener.before += plan.steps
        # Counted anew, so that a resumed run counts what was done before it was interrupted.
        spent += plan.steps * plan.batch
        if power == 1.0:
            spent += VALIDATION_SAMPLES * -(-plan.steps // plan.validate_every)
    problem.n_evaluations = spent


def _stages(
    settings: TrainingSettings, kind: str, caution: float
) -> list[tuple[float, TrainingPlan]]:
    default_steps, default_rate = DEFAULTS[kind]
    steps = default_steps if settings.steps is None else settings.steps
    rate = caution * (settings.learning_rate or default_rate)
    first = int(FIRST_STAGES * steps)
    stages = []
    for power in POWERS:
        last = power == 1.0
        own = steps - first * (len(POWERS) - 1) if last else first
        plan = TrainingPlan(
            steps=own,
            batch=settings.batch,
            learning_rate=rate,
            schedule=Cosine(min(settings.warm_up, own // 3, 15), 0.01 if last else 0.3),
            clip_norm=settings.clip_norm,
            ema_decay=settings.ema_decay or None,
            micro_batch=settings.micro_batch,
            checkpoint_every=settings.checkpoint_every,
            validate_every=max(1, own // 4),
        )
        stages.append((power, plan))
    return stages


def _loss(flow: Flow, target: ValueAndGradient, settings: TrainingSettings) -> Loss:
    if isinstance(flow.bijector, ScoredFlow) and settings.objective in (None, "path_gradient"):
        base, bijector = flow.base, flow.bijector
        return lambda n, generator: carried_score_reverse_kl(base, bijector, target, n, generator)
    return training_loss(
        settings.objective or "reverse_kl", flow, with_known_gradient(target), None
    )


def _tempered(problem: LatticeField, base: Gaussian, power: float) -> ValueAndGradient:
    def target(x: Configs) -> tuple[Values, Tensor]:
        action, gradient = problem.target(x)
        if power == 1.0:
            return action, gradient
        harmonic = x @ base.precision.to(x)
        value = power * action + (1.0 - power) * 0.5 * (harmonic * x).sum(1)
        return value, power * gradient + (1.0 - power) * harmonic

    return target


class _Listener:
    """Turns the reports of training into metrics and progress."""

    def __init__(
        self, problem: LatticeField, steps: int, directory: Path | None, progress: Progress
    ) -> None:
        self.problem, self.steps, self.progress = problem, steps, progress
        self.before, self.quality = 0, ""
        self.metrics = None
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self.metrics = MetricsFile(directory / "metrics.jsonl")

    def __call__(self, report: StepReport) -> None:
        if self.metrics is not None and report.steps + self.before == self.steps:
            self.metrics(report)
        value = None
        if report.validation:
            value = -report.validation["free_energy"]
            self.quality = f", ESS {100 * report.validation['ess']:.3g} %"
        self.progress(
            Event(
                "training",
                self.before + report.step,
                self.steps,
                f"loss {report.loss:.4f}{self.quality}",
                value,
                energy_evaluations=self.problem.n_evaluations,
            )
        )


def with_enough_steps(flow: Flow, problem: LatticeField, settings: Settings, goal: float) -> Flow:
    """The flow with as few integration steps as keep the bias of ln Z well below ``goal``."""
    if not isinstance(flow.bijector, ScoredFlow):
        return flow
    if settings.flow.steps is not None:
        return stepped(flow, settings.flow.steps)
    works = _works(flow, problem, settings.seed)
    return Flow(flow.base, enough_steps(flow.bijector, works, STEPS, goal))


def stepped(flow: Flow, n_steps: int) -> Flow:
    """The same continuous flow, integrated with another number of steps."""
    if not isinstance(flow.bijector, ScoredFlow):
        raise InputError("flow.steps", "a continuous flow", type(flow.bijector).__name__)
    return Flow(flow.base, flow.bijector.with_steps(n_steps)).requires_grad_(False)


def integrator_bias(flow: Flow, problem: LatticeField, seed: int) -> float:
    """Mean size of the change of the work when the number of steps is doubled, in nats."""
    if not isinstance(flow.bijector, ScoredFlow):
        return 0.0
    return step_bias(flow.bijector, _works(flow, problem, seed))


def _works(flow: Flow, problem: LatticeField, seed: int) -> Works:
    generator = stream(seed, "integrator")
    return works_on(flow.base, lambda x: problem.target(x)[0], STEP_SAMPLES, generator)
