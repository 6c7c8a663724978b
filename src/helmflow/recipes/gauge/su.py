"""Two-dimensional SU(2) and SU(3): couplings of loops, trained from Haar measure."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.loop_couplings import LoopCouplings
from helmflow.densities.flow import Flow
from helmflow.densities.haar import HaarMatrices
from helmflow.energies.gauge_exact import exact_gauge
from helmflow.energies.wilson import SUWilson, mean_traces
from helmflow.errors import InputError
from helmflow.manifolds.special_unitary import haar_matrices
from helmflow.objectives.divergences import reverse_kl
from helmflow.recipes.gauge.theory import FittedGauge, GaugeTheory, Report
from helmflow.recipes.path.analysis import Samples
from helmflow.samplers.group_hmc import group_hmc
from helmflow.settings import Settings
from helmflow.shapes import Configs, Values
from helmflow.streams import stream
from helmflow.system import System
from helmflow.training.plan import StepReport, TrainingPlan
from helmflow.training.stochastic import train

Array = np.ndarray
TRAINING_STEPS, LEARNING_RATE = 200, 1e-2
PLAQUETTE = "<Re tr P>/N"
BASELINE_CHAINS, BASELINE_STEPS, BASELINE_BURN_IN = 16, 60, 20
TRAJECTORY = (0.2, 6)
"""Step and number of steps of a trajectory, at beta/N = 1."""


class SUTheory(GaugeTheory):
    """``S = -(beta/N) sum Re tr P`` on extents that are powers of two."""

    def __init__(self, system: System, settings: Settings) -> None:
        super().__init__(system, settings)
        energy = system.energy
        if not isinstance(energy, SUWilson):
            raise InputError("potential.kind", "su_wilson", type(energy).__name__)
        if settings.flow.start == "loops":
            raise InputError("flow.start", "base", "loops, for U(1) links only")
        self.energy, self.shape, self.n_colours = energy, energy.shape, energy.n_colours
        self.beta = system.beta * energy.beta
        known = exact_gauge(self.n_colours, self.beta, self.shape[0] * self.shape[1])
        self.exact = {"log_z": known.log_z, PLAQUETTE: known.plaquette}
        self.slow = PLAQUETTE
        self.base = HaarMatrices((2, *self.shape), self.n_colours)

    def path(self, report: Report) -> Samples | None:
        """None: the flow is trained on its own samples, and ln Z is known exactly."""
        return None

    def fit(self, samples: Samples | None, report: Report) -> FittedGauge:
        """Couplings trained on the reverse divergence."""
        chosen = self.settings.training
        plan = TrainingPlan(
            chosen.steps or TRAINING_STEPS,
            chosen.batch,
            chosen.learning_rate or LEARNING_RATE,
            clip_norm=chosen.clip_norm,
            ema_decay=0.95,
        )
        bijector = LoopCouplings(self.shape, self.n_colours)
        flow = Flow(self.base, bijector)

        def told(step: StepReport) -> None:
            report(step.step / step.steps, f"loss {step.loss + self.exact['log_z']:.3g} nats")

        loss = partial(_loss, flow, self)
        train(flow, loss, plan, stream(self.settings.seed, "flow"), report=told)
        return self.load(bijector.state_dict())

    def load(self, tensors: Mapping[str, Tensor]) -> FittedGauge:
        """The couplings with these weights."""
        bijector = LoopCouplings(self.shape, self.n_colours)
        if {k: v.shape for k, v in bijector.state_dict().items()} != {
            k: v.shape for k, v in tensors.items()
        }:
            raise InputError("flow", "a flow of this group and these extents", "another one")
        bijector.load_state_dict(dict(tensors))
        bijector.requires_grad_(requires_grad=False)
        size = sum(p.numel() for p in bijector.parameters())
        name = f"Haar, {len(bijector.maps)} loop couplings of {size} weights"
        return FittedGauge(Flow(self.base, bijector), name, None, dict(tensors))

    def observables(self, x: Configs) -> Mapping[str, Values]:
        """The mean plaquette."""
        return {PLAQUETTE: mean_traces(x).mean((1, 2))}

    def gauge_transformed(self, x: Configs, generator: Generator) -> Configs:
        """A random matrix at every site."""
        g = haar_matrices((len(x), *self.shape), self.n_colours, generator)
        return torch.stack([g @ x[:, mu] @ g.roll(-1, mu + 1).mH for mu in (0, 1)], 1)

    def baselines(self) -> Mapping[str, Array]:
        """Mean plaquette under HMC."""
        generator = stream(self.settings.seed, "baselines")
        x, _ = self.base.sample_and_log_prob(BASELINE_CHAINS, generator)
        step, n_steps = TRAJECTORY
        step = step / max(1.0, self.beta / self.n_colours) ** 0.5

        def force(y: Configs) -> tuple[Values, Configs]:
            value, f = self.energy.force(y)
            return self.system.beta * value, self.system.beta * f

        rows = []
        for k in range(BASELINE_BURN_IN + BASELINE_STEPS):
            x, _ = group_hmc(x, force, step=step, n_steps=n_steps, generator=generator)
            if k >= BASELINE_BURN_IN:
                rows.append(mean_traces(x).mean((1, 2)))
        return {"HMC": torch.stack(rows, 1).numpy()}


def _loss(flow: Flow, theory: SUTheory, n: int, generator: Generator) -> Tensor:
    return reverse_kl(flow, theory.u, n, generator)
