"""The two-flavour Schwinger model: loop splitting at a fitted coupling, and a flow on top."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.plaquette_transport import PlaquetteTransport
from helmflow.densities.flow import Flow
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.energies.schwinger import Schwinger
from helmflow.errors import InputError
from helmflow.estimators.reweighting import kish_ess
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.generalised_work import density_work
from helmflow.manifolds.links import plaquette_angles, topological_charge
from helmflow.objectives.divergences import reverse_kl
from helmflow.recipes.gauge.theory import FittedGauge, GaugeTheory, Report, turned_angles
from helmflow.recipes.path.analysis import Samples
from helmflow.samplers.leapfrog import LeapfrogChains
from helmflow.settings import Settings
from helmflow.shapes import Configs, Values
from helmflow.streams import stream
from helmflow.system import System
from helmflow.training.plan import StepReport, TrainingPlan
from helmflow.training.stochastic import train

Array = np.ndarray
SHIFTS = (0.0, 0.1, 0.2, 0.3, 0.4)
"""Couplings of the base above that of the theory, to choose from; fermions order the links."""

PROPOSALS = 1024
TRAINING_STEPS, BATCH, LEARNING_RATE = 0, 128, 2e-3
"""No steps unless asked for: tens of them did not raise the effective sample size."""

STEPS = 8
BASELINE_CHAINS, BASELINE_STEPS, TRAJECTORY = 8, 100, 8


class SchwingerTheory(GaugeTheory):
    """``S = -beta sum cos P - 2 ln|det D|``."""

    def __init__(self, system: System, settings: Settings) -> None:
        super().__init__(system, settings)
        energy = system.energy
        if not isinstance(energy, Schwinger):
            raise InputError("potential.kind", "schwinger", type(energy).__name__)
        self.energy, self.shape = energy, energy.shape
        self.exact: dict[str, float] = {}
        self.slow = "Q"

    def path(self, report: Report) -> Samples | None:
        """None: chains do not pass the zeros of the determinant."""
        return None

    def fit(self, samples: Samples | None, report: Report) -> FittedGauge:
        """The best coupling of the base, then a flow trained on the reverse divergence."""
        report(0.0, "coupling of the base")
        coupling = max(SHIFTS, key=self._base_ess) + self.energy.beta
        chosen = self.settings.training
        bijector = _transport(torch.zeros(2, PlaquetteField.size, dtype=torch.float64), STEPS)
        flow = Flow(LoopSplitting(self.shape, beta=coupling), bijector)
        plan = TrainingPlan(
            TRAINING_STEPS if chosen.steps is None else chosen.steps,
            min(chosen.batch, BATCH),
            chosen.learning_rate or LEARNING_RATE,
            clip_norm=10.0,
            ema_decay=0.9,
        )

        def told(step: StepReport) -> None:
            report(step.step / step.steps, f"loss {step.loss:.5g} nats")

        loss = partial(_loss, flow, self)
        train(bijector, loss, plan, stream(self.settings.seed, "flow"), report=told)
        coupled = torch.tensor(coupling, dtype=torch.float64)
        return self.load({"coefficients": bijector.coefficients.detach(), "base": coupled})

    def load(self, tensors: Mapping[str, Tensor]) -> FittedGauge:
        """The flow with these coefficients on the base of this coupling."""
        coupling = float(tensors["base"])
        base = LoopSplitting(self.shape, beta=coupling)
        trained = bool(tensors["coefficients"].any())
        n_steps = (self.settings.flow.steps or STEPS) if trained else 1
        flow, doubled = (
            Flow(base, _transport(tensors["coefficients"], n).requires_grad_(requires_grad=False))
            for n in (n_steps, 2 * n_steps)
        )
        name = f"loop splitting at beta = {coupling:.3g}"
        name += ", trained plaquette transport" if trained else ", no training"
        return FittedGauge(flow, name, doubled, dict(tensors))

    def observables(self, x: Configs) -> Mapping[str, Values]:
        """Mean plaquette, squared charge, sign of the determinant, charge."""
        charge = topological_charge(x)
        sign, _ = self.energy.determinant(x)
        return {
            "<cos P>": torch.cos(plaquette_angles(x)).mean((1, 2)),
            "<Q^2>": charge.square(),
            "<sign det D>": sign,
            "Q": charge,
        }

    def gauge_transformed(self, x: Configs, generator: Generator) -> Configs:
        """A random angle at every site."""
        return turned_angles(x, generator)

    def baselines(self) -> Mapping[str, Array]:
        """Topological charge under HMC, from samples of the pure gauge theory."""
        generator = stream(self.settings.seed, "baselines")
        base = LoopSplitting(self.shape, beta=self.energy.beta)
        x, _ = base.sample_and_log_prob(BASELINE_CHAINS, generator)
        chains = restarted_hmc(self.system, x, BASELINE_STEPS, generator)
        return {"HMC": topological_charge(chains).round().numpy().reshape(BASELINE_STEPS, -1).T}

    def _base_ess(self, shift: float) -> float:
        base = LoopSplitting(self.shape, beta=self.energy.beta + shift)
        generator = stream(self.settings.seed, "coupling of the base")
        x, log_q = base.sample_and_log_prob(PROPOSALS, generator)
        return kish_ess(-density_work(x, log_q, self.u).numpy())


def restarted_hmc(system: System, x: Configs, n: int, generator: Generator) -> Configs:
    """n configurations of every chain, (n * chains, 2, L0, L1), trajectories of length one."""

    def potential(y: Configs) -> tuple[Values, Configs]:
        value, gradient = system.energy.energy_and_gradient(y)
        return system.beta * value, system.beta * gradient

    chains = LeapfrogChains(
        x, potential, step=1.0 / TRAJECTORY, n_steps=TRAJECTORY, generator=generator
    )
    found = []
    for _ in range(n):
        chains.run(1)
        found.append(chains.x)
    return torch.cat(found)


def _transport(coefficients: Tensor, n_steps: int) -> PlaquetteTransport:
    return PlaquetteTransport(coefficients, n_steps=n_steps)


def _loss(flow: Flow, theory: SchwingerTheory, n: int, generator: Generator) -> Tensor:
    return reverse_kl(flow, theory.u, n, generator)
