"""Fitting a flow to an energy that has values but no gradient: the recommended way."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential, require_energies
from helmflow.objectives.score_function import finite_work, leave_one_out, lin_log
from helmflow.shapes import Configs, Values
from helmflow.training.plan import Cosine, StepReport, TrainingOutcome, TrainingPlan
from helmflow.training.stochastic import train


@dataclass(frozen=True)
class BlackBoxPlan:
    """How `fit_without_gradient` trains.

    ``steps`` in all, ``batch`` energies each; ``powers`` of the target in stages of equal length,
    the last one 1 (a flow that must concentrate starts wide); ``ceiling`` in kT above the lowest
    energy of a first batch where energies turn logarithmic; ``clip`` in kT of what one sample may
    say; ``clip_norm`` of the gradient.
    """

    steps: int = 600
    batch: int = 256
    learning_rate: float = 5e-3
    powers: tuple[float, ...] = (0.3, 0.6, 1.0)
    ceiling: float = 50.0
    clip: float = 20.0
    clip_norm: float = 10.0
    schedule: Cosine = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        if not self.powers or self.powers[-1] != 1.0 or min(self.powers) <= 0.0:
            raise InputError("powers", "positive numbers that end at 1", self.powers)
        if self.steps < len(self.powers):
            raise InputError("steps", f"at least {len(self.powers)}", self.steps)


def fit_without_gradient(
    flow: Density,
    u: ReducedPotential,
    plan: BlackBoxPlan,
    generator: torch.Generator,
    report: Callable[[StepReport], None] | None = None,
) -> TrainingOutcome:
    """Fit a flow to exp(-u), asking for values of u alone: ``steps * batch + batch`` of them.

    Leave-one-out score function, energies linear then logarithmic, bounded signal, clipped
    gradient, tempered target. The flow needs a differentiable `log_prob`; u is called without a
    graph and may return +inf. Raises EnergyError for NaN, DivergenceError if training fails.
    """
    with torch.no_grad():
        x, _ = flow.sample_and_log_prob(plan.batch, generator)
        first = finite_work(require_energies(u(x), len(x)))
    lowest = float(first.min())
    regular = lin_log(u, lowest + plan.ceiling)
    steps, remainder = divmod(plan.steps, len(plan.powers))

    def fit(power: float, steps: int, schedule: Cosine) -> TrainingOutcome:
        stage = TrainingPlan(
            steps, plan.batch, plan.learning_rate, schedule=schedule, clip_norm=plan.clip_norm
        )
        loss = partial(_loss, flow, _power(regular, power), plan.clip)
        return train(flow, loss, stage, generator, report=report)

    for power in plan.powers[:-1]:  # only the last stage has to settle
        fit(power, steps, Cosine(floor=1.0))
    return fit(plan.powers[-1], steps + remainder, plan.schedule)


def _loss(
    flow: Density, u: ReducedPotential, clip: float, n: int, generator: torch.Generator
) -> Tensor:
    return leave_one_out(flow, u, n, generator, clip=clip)


def _power(u: ReducedPotential, power: float) -> ReducedPotential:
    def tempered(x: Configs) -> Values:
        return power * u(x)

    return tempered
