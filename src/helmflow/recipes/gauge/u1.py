"""Two-dimensional U(1): a continuous flow from Haar measure, or the loop-splitting base."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.plaquette_transport import PlaquetteTransport
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.haar import HaarAngles
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.gauge_exact import exact_gauge
from helmflow.errors import InputError
from helmflow.estimators.integration import Ladder
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.generalised_work import density_work
from helmflow.manifolds.links import plaquette_angles, topological_charge
from helmflow.recipes.flow.transport import fit_coefficients
from helmflow.recipes.gauge.theory import (
    FittedGauge,
    GaugeTheory,
    Report,
    integrator_bias,
    turned_angles,
)
from helmflow.recipes.path.analysis import Samples
from helmflow.samplers.heat_bath import heat_bath_sweep
from helmflow.samplers.leapfrog import LeapfrogChains
from helmflow.settings import Settings
from helmflow.shapes import Configs, Values
from helmflow.streams import stream
from helmflow.system import System

Array = np.ndarray
NODES = 8
FIT_CHAINS, FIT_SWEEPS = 1024, 4
"""Chains at every node and recorded configurations of each."""

WARM_UP, BETWEEN = 8, 2
"""Sweeps from one node to the next, and between records."""

STEPS = (8, 12, 16, 24, 32)
"""Runge-Kutta steps to choose from."""

STEP_BIAS = 0.1
"""Bias of the integrator that is accepted, in target errors."""

BASELINE_CHAINS, BASELINE_STEPS, BASELINE_BURN_IN = 32, 400, 50


class U1Theory(GaugeTheory):
    """U(1) at ``S = -beta sum cos P``: least-squares flow from Haar, or from loop splitting."""

    def __init__(self, system: System, settings: Settings) -> None:
        super().__init__(system, settings)
        energy = system.energy
        if not isinstance(energy, U1Wilson):
            raise InputError("potential.kind", "u1_wilson", type(energy).__name__)
        self.shape = energy.shape
        self.beta = system.beta * energy.beta
        known = exact_gauge(1, self.beta, self.shape[0] * self.shape[1])
        self.exact = {
            "log_z": known.log_z,
            "<cos P>": known.plaquette,
            "<Q^2>": float(known.charge_squared or 0.0),
        }
        self.slow = "Q"
        self.loops = settings.flow.start == "loops"
        self.base: Density = (
            LoopSplitting(self.shape, beta=self.beta) if self.loops else HaarAngles(self.shape)
        )

    def path(self, report: Report) -> Samples | None:
        """Heat-bath chains at powers of the target, each node from the one before.

        None on the loop-splitting base, which hardly differs from the target.
        """
        if self.loops:
            return None
        ladder = Ladder.lobatto(NODES)
        generator = stream(self.settings.seed, "path")
        chains = self.settings.sampling.chains or FIT_CHAINS
        x, _ = self.base.sample_and_log_prob(chains, generator)
        work, controls = [], []
        for k, lam in enumerate(ladder.lam):
            report(k / NODES, f"heat bath at beta = {lam * self.beta:.3g}")
            rows, columns = [], []
            for record in range(FIT_SWEEPS):
                sweeps = BETWEEN if record or not k else WARM_UP
                for _ in range(1 if lam == 0.0 else sweeps):
                    x = heat_bath_sweep(x, float(lam) * self.beta, generator)
                rows.append(self.u(x).numpy())
                angles = plaquette_angles(x)
                slope = float(lam) * self.beta * torch.sin(angles)
                columns.append(PlaquetteField().stein(angles, slope).numpy())
            work.append(np.stack(rows))
            controls.append(np.stack(columns, 1))
        return Samples(ladder.lam, work, controls)

    def fit(self, samples: Samples | None, report: Report) -> FittedGauge:
        """Least squares of the action on the Stein functions of the velocity fields."""
        if samples is None:
            return self.load({"coefficients": self._on_loops().unsqueeze(0)})
        report(0.0, "least squares")
        return self.load(
            {"coefficients": torch.from_numpy(fit_coefficients(samples).coefficients)}
        )

    def load(self, tensors: Mapping[str, Tensor]) -> FittedGauge:
        """The continuous flow with these coefficients."""
        chosen = self.settings.flow.steps
        for n_steps in (chosen,) if chosen else STEPS:
            fitted = self._stepped(tensors, n_steps)
            bias = integrator_bias(self, fitted, "choice of steps")
            if bias <= STEP_BIAS * (self.settings.target_error or 1.0):
                break
        return fitted

    def _stepped(self, tensors: Mapping[str, Tensor], n_steps: int) -> FittedGauge:
        bijector = PlaquetteTransport(tensors["coefficients"], n_steps=n_steps)
        bijector.requires_grad_(requires_grad=False)
        flow, doubled = (
            Flow(self.base, each) for each in (bijector, bijector.with_steps(2 * n_steps))
        )
        base = "loop splitting" if self.loops else "Haar"
        name = f"{base}, plaquette transport of {tensors['coefficients'].numel()} coefficients"
        return FittedGauge(flow, name, doubled, dict(tensors))

    def observables(self, x: Configs) -> Mapping[str, Values]:
        """Mean plaquette, squared topological charge, topological charge."""
        charge = topological_charge(x)
        plaquette = torch.cos(plaquette_angles(x)).mean((1, 2))
        return {"<cos P>": plaquette, "<Q^2>": charge.square(), "Q": charge}

    def gauge_transformed(self, x: Configs, generator: Generator) -> Configs:
        """A random angle at every site."""
        return turned_angles(x, generator)

    def baselines(self) -> Mapping[str, Array]:
        """Topological charge under HMC with trajectories of length one, and under heat bath."""
        generator = stream(self.settings.seed, "baselines")
        start, _ = HaarAngles(self.shape).sample_and_log_prob(BASELINE_CHAINS, generator)
        for k in range(BASELINE_BURN_IN):
            power = min(1.0, 2.0 * k / BASELINE_BURN_IN)
            start = heat_bath_sweep(start, power * self.beta, generator)
        found = {"HMC": self._hmc(start, generator)}
        rows, x = [], start
        for _ in range(BASELINE_STEPS):
            x = heat_bath_sweep(x, self.beta, generator)
            rows.append(topological_charge(x))
        return {**found, "heat bath": torch.stack(rows, 1).round().numpy()}

    def _hmc(self, start: Configs, generator: Generator) -> Array:
        n_steps = max(6, round(3.0 * self.beta**0.5 * (start[0].numel() / 128) ** 0.25))

        def potential(x: Configs) -> tuple[Values, Configs]:
            value, gradient = self.system.energy.energy_and_gradient(x)
            return self.system.beta * value, self.system.beta * gradient

        chains = LeapfrogChains(
            start, potential, step=1.0 / n_steps, n_steps=n_steps, generator=generator
        )
        rows = []
        for _ in range(BASELINE_STEPS):
            chains.run(1)
            rows.append(topological_charge(chains.x))
        return torch.stack(rows, 1).round().numpy()

    def _on_loops(self) -> Tensor:
        """What little the analytic base leaves to do, by the same least squares."""
        generator = stream(self.settings.seed, "path")
        x, log_q = self.base.sample_and_log_prob(FIT_CHAINS, generator)
        angles = plaquette_angles(x)
        controls = PlaquetteField().stein(angles, self.beta * torch.sin(angles)).numpy()
        work = density_work(x, log_q, self.u).numpy()
        ladder = Ladder.lobatto(3)
        nodes = Samples(ladder.lam, [work[None]] * 3, [controls[:, None]] * 3)
        return torch.from_numpy(fit_coefficients(nodes).coefficients[0])
