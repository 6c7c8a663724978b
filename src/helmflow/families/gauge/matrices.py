"""Theories of SU(2) and SU(3) matrices: flows trained from Haar measure."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import Bijector
from helmflow.densities.flow import Flow
from helmflow.densities.haar import HaarMatrices
from helmflow.energies.wilson import SingleLink, SUWilson
from helmflow.errors import InputError
from helmflow.estimators.nodes import Nodes
from helmflow.families.gauge.theory import BaselinePlan, Baselines, FittedGauge, GaugeTheory
from helmflow.objectives.divergences import reverse_kl
from helmflow.samplers.group_hmc import group_hmc
from helmflow.shapes import Configs, Values
from helmflow.skeleton.run import Run, Stage
from helmflow.system import System
from helmflow.training.plan import StepReport, TrainingPlan
from helmflow.training.stochastic import train

Array = np.ndarray
LEARNING_RATE = 1e-2
TRAJECTORY = (0.2, 6)
"""Step and number of steps of a trajectory, at beta/N = 1."""


class MatrixTheory(GaugeTheory):
    """What lattices of SU(N) links and a single link have in common."""

    kind = "SU(N)"
    flow_kinds = ("transport", "coupling")
    reads = frozenset(
        f"training.{key}"
        for key in ("steps", "batch", "learning_rate", "clip_norm", "checkpoint_every")
    )
    baseline_plan = BaselinePlan(chains=16, steps=60, burn_in=20, every=5)
    steps: int
    """Of training, unless the settings say otherwise."""

    def __init__(self, system: System, run: Run, energy: SUWilson | SingleLink) -> None:
        super().__init__(system, run)
        self.energy, self.n_colours = energy, energy.n_colours
        self.beta = system.beta * energy.beta
        links = (2, *energy.shape) if energy.shape else ()
        self.base = HaarMatrices(links, self.n_colours)

    @abstractmethod
    def bijector(self, tensors: Mapping[str, Tensor] | None) -> Bijector:
        """The flow's map, new or with the weights of ``tensors``."""

    @abstractmethod
    def named(self, bijector: Bijector) -> str:
        """What to call it."""

    @abstractmethod
    def kept(self, bijector: Bijector) -> Mapping[str, Tensor]:
        """The tensors from which `bijector` builds it again."""

    @property
    def couplings(self) -> dict[str, float | str]:
        return super().couplings | {"n_colours": self.n_colours}

    @property
    def fit_evaluations(self) -> int:
        return self._plan.steps * self._plan.batch

    @property
    def baseline_evaluations(self) -> int:
        """Of HMC, and of what is set aside."""
        plan = self.baseline_plan
        per_chain = (plan.burn_in + plan.steps) * (1 + TRAJECTORY[1])
        return plan.chains * (per_chain + len(_set_aside(plan)))

    @property
    def _plan(self) -> TrainingPlan:
        training = self.settings.training
        return TrainingPlan(
            self.steps if training.steps is None else training.steps,
            training.batch,
            training.learning_rate or LEARNING_RATE,
            clip_norm=training.clip_norm,
            ema_decay=0.95,
            checkpoint_every=training.checkpoint_every,
        )

    def fit(self, samples: Nodes | None, stage: Stage) -> Mapping[str, Tensor]:
        """Trained on the reverse divergence; no path, as ln Z is known exactly."""
        bijector = self.bijector(None)
        flow = Flow(self.base, bijector)

        def told(step: StepReport) -> None:
            self._tell(step.step / step.steps, f"loss {step.loss + self.exact['log_z']:.3g} nats")

        loss = partial(_loss, flow, self)
        train(flow, loss, self._plan, self.run.stream("flow"), report=told, store=stage)
        return self.kept(bijector)

    def load(self, tensors: Mapping[str, Tensor]) -> FittedGauge:
        bijector = self.bijector(tensors).requires_grad_(requires_grad=False)
        return FittedGauge(Flow(self.base, bijector), self.named(bijector), dict(tensors))

    def baselines(self) -> Baselines:
        """The slow observable under HMC."""
        plan, generator = self.baseline_plan, self.run.stream("baselines")
        x, _ = self.base.sample_and_log_prob(plan.chains, generator)
        step, n_steps = TRAJECTORY
        step = step / max(1.0, self.beta / self.n_colours) ** 0.5

        def force(y: Configs) -> tuple[Values, Configs]:
            self.run.budget.spend(len(y))
            value, f = self.energy.force(y)
            return self.system.beta * value, self.system.beta * f

        rows, target, set_aside = [], [], _set_aside(plan)
        for k in range(plan.burn_in + plan.steps):
            x, _ = group_hmc(x, force, step=step, n_steps=n_steps, generator=generator)
            if k >= plan.burn_in:
                rows.append(self.observables(x)[self.slow])
            if k in set_aside:
                target.append(x)
        return Baselines({"HMC": torch.stack(rows, 1).numpy()}, torch.cat(target))


def _set_aside(plan: BaselinePlan) -> list[int]:
    """Steps after which configurations are."""
    return [k for k in range(plan.burn_in, plan.burn_in + plan.steps) if k % plan.every == 0]


def _loss(flow: Flow, theory: MatrixTheory, n: int, generator: Generator) -> Tensor:
    return reverse_kl(flow, theory.u, n, generator)


def require_tensors(bijector: Bijector, tensors: Mapping[str, Tensor], of: str) -> None:
    """Load weights; InputError unless names and shapes fit and all are finite."""
    expected = bijector.state_dict()
    fits = {k: v.shape for k, v in expected.items()} == {k: v.shape for k, v in tensors.items()}
    if not fits or not all(bool(torch.isfinite(v).all()) for v in tensors.values()):
        raise InputError("flow", f"a flow of {of}, of finite weights", "another one")
    bijector.load_state_dict(dict(tensors))
