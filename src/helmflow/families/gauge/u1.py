"""Two-dimensional U(1): a continuous flow from Haar measure, or the loop-splitting base."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.fitted_flow import FittedFlow, Plaquettes
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.haar import HaarAngles
from helmflow.densities.loop_splitting import LARGEST_COUPLING, LoopSplitting
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.gauge_exact import exact_gauge
from helmflow.errors import InputError
from helmflow.estimators.nodes import Ladder, Nodes
from helmflow.families.flow.transport import fit_coefficients
from helmflow.families.gauge.theory import (
    INTEGRATOR_SAMPLES,
    BaselinePlan,
    Baselines,
    FittedGauge,
    GaugeTheory,
    integrator_works,
    turned_angles,
)
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.generalised_work import density_work
from helmflow.manifolds.links import plaquette_angles, topological_charge
from helmflow.samplers.heat_bath import heat_bath_sweep
from helmflow.samplers.leapfrog import LeapfrogChains
from helmflow.samplers.winding import winding_step
from helmflow.shapes import Configs, Values
from helmflow.skeleton.run import Run, Stage
from helmflow.skeleton.volumes import Resized, Shape
from helmflow.system import System
from helmflow.training.integrator_steps import enough_steps

Array = np.ndarray
NODES = 8
FIT_CHAINS, FIT_SWEEPS = 1024, 4
"""Chains at every node and recorded configurations of each."""

WARM_UP, BETWEEN = 8, 2
"""Sweeps from one node to the next, and between records."""

LEAST_EXTENT, RESIZED_STEPS = 4, 8
STEPS = (8, 12, 16, 24, 32)
"""Runge-Kutta steps to choose from."""


class U1Theory(GaugeTheory):
    """U(1) at ``S = -beta sum cos P``: least-squares flow from Haar, or from loop splitting."""

    kind = "U(1)"
    slow = "Q"
    shape: Shape
    baseline_plan = BaselinePlan(chains=32, steps=400, burn_in=50, every=10)
    reads = frozenset({"flow.start", "flow.coupling", "flow.steps", "sampling.chains"})

    def __init__(self, system: System, run: Run) -> None:
        super().__init__(system, run)
        energy = system.energy
        if not isinstance(energy, U1Wilson):
            raise InputError("potential.kind", "u1_wilson", type(energy).__name__)
        self.shape = energy.shape
        if any(extent % 2 for extent in self.shape):
            raise InputError("field.shape", "even extents for a heat bath", list(self.shape))
        self.beta = system.beta * energy.beta
        known = exact_gauge(1, self.beta, self.shape[0] * self.shape[1])
        self.exact = {
            "log_z": known.log_z,
            "<cos P>": known.plaquette,
            "<Q^2>": float(known.charge_squared or 0.0),
        }
        flow_settings = self.settings.flow
        if flow_settings.start not in ("base", "loops"):
            raise InputError("flow.start", "base or loops for U(1)", repr(flow_settings.start))
        require_flow_coupling(flow_settings.coupling)
        if flow_settings.coupling is not None and flow_settings.start != "loops":
            raise InputError("flow.coupling", 'flow.start = "loops" with it', flow_settings.start)
        self.start = flow_settings.coupling or (
            self.beta if flow_settings.start == "loops" else 0.0
        )
        self.base = _base(self.shape, self.start)

    @property
    def path_evaluations(self) -> int:
        """Two a winding step, and one a record; a heat bath evaluates no action."""
        sweeps = (NODES - 1) * (WARM_UP + (FIT_SWEEPS - 1) * BETWEEN)
        return 0 if self.start == self.beta else self._chains * (2 * sweeps + NODES * FIT_SWEEPS)

    @property
    def fit_evaluations(self) -> int:
        known_steps = self.start == self.beta or self.settings.flow.steps is not None
        return 0 if known_steps else 2 * INTEGRATOR_SAMPLES

    @property
    def baseline_evaluations(self) -> int:
        """Of HMC, of winding steps, and of what is set aside."""
        plan = self.baseline_plan
        per_step = self._trajectory + 2
        return plan.chains * (1 + plan.steps * per_step + plan.steps // plan.every)

    def path(self) -> Nodes | None:
        """Chains at couplings from that of the base to that of the theory, node after node.

        They move by heat bath and by winding, because heat bath alone would keep the charges of
        the base. None if the base is at the coupling of the theory: nothing is left to do.
        """
        if self.start == self.beta:
            return None
        ladder = Ladder.lobatto(NODES)
        generator, chains = self.run.stream("path"), self._chains
        x, _ = self.base.sample_and_log_prob(chains, generator)
        field, work, controls = PlaquetteField(), [], []
        for k, lam in enumerate(ladder.lam):
            beta = self.start + float(lam) * (self.beta - self.start)
            self._tell(k / NODES, f"heat bath at beta = {beta:.3g}")
            rows, columns = [], []
            for record in range(FIT_SWEEPS):
                if k == 0:
                    x, _ = self.base.sample_and_log_prob(chains, generator)
                else:
                    x = self._moved(x, beta, BETWEEN if record else WARM_UP, generator)
                rows.append(density_work(x, self.base.log_prob(x), self.u).numpy())
                angles = plaquette_angles(x)
                columns.append(field.stein(angles, beta * torch.sin(angles), float(lam)).numpy())
            work.append(np.stack(rows))
            controls.append(np.stack(columns, 1))
        return Nodes(ladder.lam, ladder.weight, work, controls)

    def _moved(self, x: Configs, beta: float, n_sweeps: int, generator: Generator) -> Configs:
        u = self.run.budget.count(U1Wilson(self.shape, beta=beta))
        for _ in range(n_sweeps):
            x = heat_bath_sweep(x, beta, generator)
            x, _ = winding_step(x, u, generator)
        return x

    @property
    def _chains(self) -> int:
        return self.settings.sampling.chains or FIT_CHAINS

    def fit(self, samples: Nodes | None, stage: Stage) -> Mapping[str, Tensor]:
        """Least squares of the action on the Stein functions of the velocity fields."""
        coefficients = torch.zeros(1, PlaquetteField.size, dtype=torch.float64)
        if samples is not None:
            self._tell(0.0, "least squares")
            coefficients = torch.from_numpy(fit_coefficients(samples).coefficients)
        start = torch.tensor(self.start, dtype=torch.float64)
        return {"coefficients": coefficients, "start": start}

    def load(self, tensors: Mapping[str, Tensor]) -> FittedGauge:
        """The continuous flow with these coefficients, on the base that it was fitted to."""
        coefficients, start = tensors["coefficients"], float(tensors["start"])
        base = _base(self.shape, start)
        fitted_to = f"loop splitting at beta = {start:.3g}" if start else "Haar"
        if not coefficients.any():
            sampler = "loop splitting" if start else "Haar"
            return FittedGauge(base, f"{fitted_to}, no flow", dict(tensors), sampler)
        name = f"{fitted_to}, plaquette transport of {coefficients.numel()} coefficients"
        steps = self.settings.flow.steps
        flow = _transport(coefficients, steps or STEPS[0])
        if steps is None:
            works = integrator_works(self, base, "choice of steps")
            flow = enough_steps(flow, works, STEPS, self.settings.target_error or 1.0)
        return FittedGauge(Flow(base, flow), name, dict(tensors))

    def resized(self, tensors: Mapping[str, Tensor], shape: Shape) -> Resized | None:
        """Any extents from Haar measure, powers of two from loop splitting."""
        start = float(tensors["start"])
        if min(shape) < LEAST_EXTENT or (start and any(n & (n - 1) for n in shape)):
            return None
        flow = Flow(_base(shape, start), _transport(tensors["coefficients"], RESIZED_STEPS))
        return flow, self.run.budget.count(U1Wilson(shape, beta=self.beta))

    def observables(self, x: Configs) -> Mapping[str, Values]:
        charge = topological_charge(x)
        plaquette = torch.cos(plaquette_angles(x)).mean((1, 2))
        return {"<cos P>": plaquette, "<Q^2>": charge.square(), "Q": charge}

    def gauge_transformed(self, x: Configs, generator: Generator) -> Configs:
        return turned_angles(x, generator)

    def baselines(self) -> Baselines:
        """Topological charge under HMC (trajectories of length one), heat bath, both steps."""
        plan, generator = self.baseline_plan, self.run.stream("baselines")
        start, _ = HaarAngles(self.shape).sample_and_log_prob(plan.chains, generator)
        for k in range(plan.burn_in):
            power = min(1.0, 2.0 * k / plan.burn_in)
            start = heat_bath_sweep(start, power * self.beta, generator)
        series = {"HMC": self._hmc(start, generator)}
        u = self.run.budget.count(U1Wilson(self.shape, beta=self.beta))
        target = []
        for name, winds in (("heat bath", False), ("heat bath and winding", True)):
            rows, x = [], start
            for k in range(plan.steps):
                x = heat_bath_sweep(x, self.beta, generator)
                x = winding_step(x, u, generator)[0] if winds else x
                rows.append(topological_charge(x))
                if winds and k % plan.every == plan.every - 1:
                    target.append(x)
            series[name] = torch.stack(rows, 1).round().numpy()
        return Baselines(series, torch.cat(target))

    @property
    def _trajectory(self) -> int:
        """Steps of a trajectory of length one."""
        return max(6, round(3.0 * self.beta**0.5 * (2 * math.prod(self.shape) / 128) ** 0.25))

    def _hmc(self, start: Configs, generator: Generator) -> Array:
        n_steps = self._trajectory
        chains = LeapfrogChains(
            start, self.potential, step=1.0 / n_steps, n_steps=n_steps, generator=generator
        )
        rows = []
        for _ in range(self.baseline_plan.steps):
            chains.run(1)
            rows.append(topological_charge(chains.x))
        return torch.stack(rows, 1).round().numpy()


def _transport(coefficients: Tensor, n_steps: int) -> FittedFlow:
    return FittedFlow(PlaquetteField(), coefficients, Plaquettes(), n_steps=n_steps)


def require_flow_coupling(coupling: float | None) -> None:
    """InputError for a coupling at which loop splitting is not exact to rounding."""
    if coupling is not None and coupling > LARGEST_COUPLING:
        raise InputError("flow.coupling", f"at most {LARGEST_COUPLING:g}", coupling)


def _base(shape: Shape, coupling: float) -> Density:
    return LoopSplitting(shape, beta=coupling) if coupling else HaarAngles(shape)
