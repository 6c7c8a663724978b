"""Fitting a flow by replay within a trust region: values of the energy alone, each used often."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential, density_work
from helmflow.objectives.divergences import forward_kl
from helmflow.objectives.score_function import finite_work, trust_region_power
from helmflow.shapes import Configs, Values
from helmflow.training.plan import Cosine, StepReport, TrainingOutcome, TrainingPlan
from helmflow.training.stochastic import train


@dataclass(frozen=True)
class ReplayPlan:
    """How `fit_with_replay` trains.

    ``rounds`` of ``fresh`` energies each; after each, ``updates`` of ``batch`` samples from the
    last ``memory`` rounds. ``radius`` in nats is how far the target of a round may be from the
    flow that drew it.
    """

    rounds: int = 60
    fresh: int = 1024
    updates: int = 8
    batch: int = 256
    memory: int = 3
    radius: float = 1.0
    learning_rate: float = 5e-3
    clip_norm: float = 10.0
    schedule: Cosine = field(default_factory=Cosine)

    def __post_init__(self) -> None:
        for name in ("rounds", "updates", "batch", "memory"):
            if getattr(self, name) < 1:
                raise InputError(name, "at least 1", getattr(self, name))
        if self.fresh < 2:
            raise InputError("fresh", "at least 2", self.fresh)
        if not self.radius > 0:
            raise InputError("radius", "a positive number of nats", self.radius)


class ReplayBuffer:
    """Samples of the last rounds with weights towards ``q^(1-h) p^h``, h from the trust region.

    Every round has the same share, whatever flow drew it: the exponent h, largest such that its
    weights stay within ``radius`` nats of uniform, tells how far towards p it points, and is 1
    once the flow is close.
    """

    def __init__(self, memory: int, radius: float) -> None:
        self.memory, self.radius = memory, radius
        self.rounds: list[tuple[Configs, Tensor]] = []
        self.power = 0.0

    def add(self, x: Configs, work: Values) -> None:
        """Samples (n, *event) of a flow and their works (n,); +inf is weight zero."""
        log_w = -finite_work(work)
        self.power = trust_region_power(log_w, self.radius)
        share = torch.softmax(self.power * log_w, 0)
        share = torch.where(torch.isinf(work), 0.0, share)
        self.rounds = [*self.rounds[1 - self.memory :], (x, share)][-self.memory :]

    def draw(self, n: int, generator: torch.Generator) -> Configs:
        """n samples, with replacement, in proportion to their weights."""
        x = torch.cat([part for part, _ in self.rounds])
        share = torch.cat([part for _, part in self.rounds])
        return x[torch.multinomial(share, n, replacement=True, generator=generator)]


def fit_with_replay(
    flow: Density,
    u: ReducedPotential,
    plan: ReplayPlan,
    generator: torch.Generator,
    report: Callable[[StepReport], None] | None = None,
) -> TrainingOutcome:
    """Fit a flow to exp(-u) with ``rounds * fresh`` values of u, none of them thrown away.

    Each round draws from the flow, weighs the samples towards the target as far as they can
    resolve it (`trust_region_power`), and fits the flow to them by maximum likelihood, which
    keeps every mode that a sample has found. u is called without a graph and may return +inf.
    Raises EnergyError for NaN, DivergenceError if training fails. Source: L. I. Midgley et al.,
    arXiv:2208.01893; J. Blessing et al., arXiv:2508.12511.
    """
    buffer = ReplayBuffer(plan.memory, plan.radius)
    steps = 0

    def loss(n: int, generator: torch.Generator) -> Tensor:
        nonlocal steps
        if steps % plan.updates == 0:
            with torch.no_grad():
                x, log_q = flow.sample_and_log_prob(plan.fresh, generator)
                buffer.add(x, density_work(x, log_q, u))
        steps += 1
        return forward_kl(flow, buffer.draw(n, generator))

    training = TrainingPlan(
        plan.rounds * plan.updates,
        plan.batch,
        plan.learning_rate,
        schedule=plan.schedule,
        clip_norm=plan.clip_norm,
    )
    return train(flow, loss, training, generator, report=report)
