"""Trained flows of lattice fields: built, trained, integrated finely enough."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from helmflow.bijectors.checkerboard import checkerboard_couplings
from helmflow.bijectors.fixed_step import ScoredFlow
from helmflow.bijectors.sine_flow import SineFlow
from helmflow.densities.flow import Flow
from helmflow.densities.free_field import FreeField
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.families.flow.path_samples import PathSamples
from helmflow.families.flow.recipe import FlowRecipe, MadeFlow
from helmflow.families.flow.training_losses import training_loss
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.families.path.problem import Problem
from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.objectives import with_known_gradient
from helmflow.objectives.known_gradient import ValueAndGradient
from helmflow.objectives.path_gradient import carried_score_reverse_kl
from helmflow.settings import NetworkSettings, Settings, TrainingSettings
from helmflow.shapes import Configs, Values
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.run import Run, Stage
from helmflow.streams import stream
from helmflow.training.distributed import Loss
from helmflow.training.integrator_steps import Works, enough_steps, step_bias, works_on
from helmflow.training.plan import Cosine, DivergenceError, StepReport, TrainingPlan
from helmflow.training.stochastic import measure, train

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


class FieldDesign(NamedTuple):
    """How far kernels reach, whether the axes are equal, and the typical size of the field."""

    reach: int
    isotropic: bool
    scale: float = 1.0


def build_field_flow(
    shape: tuple[int, int],
    kind: str,
    network: NetworkSettings,
    design: FieldDesign,
    generator: Generator | None = None,
) -> Flow:
    """An untrained flow of fields (batch, V) on a free field of unit spectrum."""
    reach, isotropic, scale = design
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


def fresh_field_flow(problem: LatticeProblem, base: Gaussian, settings: Settings) -> Flow:
    """The flow that training starts from: the Gaussian ``base``, unchanged or nearly so."""
    shape = problem.shape
    flow = build_field_flow(
        shape,
        str(settings.flow.kind),
        settings.network,
        FieldDesign(
            min(max(max(shape) // 2, 1), LARGEST_REACH),
            problem.isotropic,
            base.covariance[0, 0].sqrt().item(),
        ),
        stream(settings.seed, "network"),
    )
    free_field(flow).set_spectrum(torch.fft.fft2(base.precision[0].view(shape)).real)
    return flow


class FieldRecipe(FlowRecipe[LatticeProblem]):
    """Continuous flows and couplings of lattice fields, trained on a free field."""

    def make(self, path: PathSamples, stage: Stage) -> MadeFlow:
        """Train one; its samples are not used, for a field has modes that chains may miss."""
        flow = train_field_flow(self.problem, self.base, self.run)
        return self.fit_steps(MadeFlow(flow, flow.bijector))

    def fit_steps(self, flow: MadeFlow) -> MadeFlow:
        """As few integration steps as keep the bias of ln Z well below the error asked for."""
        stepped = with_enough_steps(flow.density, self.problem, self.run.settings, self.goal)
        return replace(flow, density=stepped, bijector=stepped.bijector)

    def pack(self, flow: MadeFlow) -> Kept:
        return pack_field_flow(flow.density, flow.network or self.run.settings.network)

    def build(self, kept: Kept) -> MadeFlow:
        flow = unpack_field_flow(kept, self.problem.shape, str(self.run.settings.flow.kind))
        network = NetworkSettings.model_validate(kept.facts["network"])
        return MadeFlow(flow, flow.bijector, network=network)


def pack_field_flow(flow: Flow, network: NetworkSettings) -> Kept:
    """Weights and spectrum of the base, and what it takes to build the networks."""
    orbits, bijector = free_field(flow).orbits, flow.bijector
    facts = {
        "network": network.model_dump(),
        "reach": orbits.reach,
        "isotropic": orbits.isotropic,
        "n_steps": bijector.n_steps if isinstance(bijector, ScoredFlow) else None,
    }
    return Kept(dict(flow.state_dict()), facts)


def unpack_field_flow(kept: Kept, shape: tuple[int, int], kind: str) -> Flow:
    """The same weights on a lattice of any extents."""
    facts = kept.facts
    network = NetworkSettings.model_validate(facts["network"])
    flow = build_field_flow(shape, kind, network, FieldDesign(facts["reach"], facts["isotropic"]))
    flow.load_state_dict({k: v for k, v in kept.tensors.items() if k != "base"})
    flow.requires_grad_(False)
    return flow if facts["n_steps"] is None else stepped(flow, int(facts["n_steps"]))


def free_field(flow: Flow) -> FreeField:
    """The base of a flow of fields; raises InputError for another."""
    if not isinstance(flow.base, FreeField):
        raise InputError("flow", "a flow on a free field", type(flow.base).__name__)
    return flow.base


def train_field_flow(problem: LatticeProblem, base: Gaussian, run: Run) -> Flow:
    """Train a flow towards a field theory from its action alone, in double precision afterwards.

    Stages with s rising to one keep the flow near its target throughout; should training diverge
    all the same, it starts again with a smaller learning rate. Raises ``DivergenceError`` if that
    does not help, and what ``helmflow.training.stochastic.train`` raises.
    """
    for caution in CAUTION:
        flow = fresh_field_flow(problem, base, run.settings)
        try:
            _train(problem, base, flow, caution, run)
        except DivergenceError:
            if caution == CAUTION[-1]:
                raise
            continue
        break
    return flow.to(torch.float64).requires_grad_(False)


def _train(problem: LatticeProblem, base: Gaussian, flow: Flow, caution: float, run: Run) -> None:
    settings = run.settings
    flow.to(PRECISION[settings.network.precision])
    stages = _stages(settings.training, str(settings.flow.kind), caution)
    listener = _Listener(run, sum(plan.steps for _, plan in stages))
    exact = with_known_gradient(problem.target)

    def unpack(kept: Kept) -> Flow:
        flow.load_state_dict(dict(kept.tensors))
        return flow

    form = Form(lambda trained: Kept(dict(trained.state_dict())), unpack)
    for k, (power, plan) in enumerate(stages):
        loss = _loss(flow, _tempered(problem, base, power), settings.training)
        validate = partial(_quality, flow, exact, run) if power == 1.0 else None
        step = partial(
            train,
            flow,
            loss,
            plan,
            run.stream(f"training, stage {k}"),
            report=listener,
            validate=validate,
        )
        run.once(f"training {caution:g} {k}", partial(_one_stage, flow, step), form)
        listener.before += plan.steps


def _one_stage(flow: Flow, step: Callable[..., object], stage: Stage) -> Flow:
    step(store=stage)
    return flow


def _quality(flow: Flow, exact: ReducedPotential, run: Run) -> Mapping[str, float]:
    return measure(flow, exact, VALIDATION_SAMPLES, run.stream("validation"))


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
        stage_steps = steps - first * (len(POWERS) - 1) if last else first
        plan = TrainingPlan(
            steps=stage_steps,
            batch=settings.batch,
            learning_rate=rate,
            schedule=Cosine(min(settings.warm_up, stage_steps // 3, 15), 0.01 if last else 0.3),
            clip_norm=settings.clip_norm,
            ema_decay=settings.ema_decay or None,
            micro_batch=settings.micro_batch,
            checkpoint_every=settings.checkpoint_every,
            validate_every=max(1, stage_steps // 4),
        )
        stages.append((power, plan))
    return stages


def _loss(flow: Flow, target: ValueAndGradient, settings: TrainingSettings) -> Loss:
    if isinstance(flow.bijector, ScoredFlow) and settings.objective in (None, "path_gradient"):
        base, bijector = free_field(flow), flow.bijector
        return lambda n, generator: carried_score_reverse_kl(base, bijector, target, n, generator)
    return training_loss(
        settings.objective or "reverse_kl", flow, with_known_gradient(target), None
    )


def _tempered(problem: LatticeProblem, base: Gaussian, power: float) -> ValueAndGradient:
    def target(x: Configs) -> tuple[Values, Tensor]:
        action, gradient = problem.target(x)
        if power == 1.0:
            return action, gradient
        harmonic = x @ base.precision.to(x)
        value = power * action + (1.0 - power) * 0.5 * (harmonic * x).sum(1)
        return value, power * gradient + (1.0 - power) * harmonic

    return target


class _Listener:
    """Turns the reports of training into progress."""

    def __init__(self, run: Run, steps: int) -> None:
        self.run, self.steps = run, steps
        self.before, self.quality = 0, ""

    def __call__(self, report: StepReport) -> None:
        estimate = None
        if report.validation:
            free_energy = report.validation["free_energy"]
            estimate = Estimate(free_energy, math.nan, math.nan, "validation")
            self.quality = f", ESS {100 * report.validation['ess']:.3g} %"
        done, detail = self.before + report.step, f"loss {report.loss:.4f}{self.quality}"
        self.run.tell("training", done, self.steps, detail, estimate, report.as_json())


def with_enough_steps(flow: Flow, problem: Problem, settings: Settings, goal: float) -> Flow:
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


def integrator_bias(flow: Flow, problem: Problem, seed: int) -> float:
    """Mean size of the change of the work when the number of steps is doubled, in nats."""
    if not isinstance(flow.bijector, ScoredFlow):
        return 0.0
    return step_bias(flow.bijector, _works(flow, problem, seed))


def _works(flow: Flow, problem: Problem, seed: int) -> Works:
    generator = stream(seed, "integrator")
    return works_on(flow.base, lambda x: problem.target(x)[0], STEP_SAMPLES, generator)
