"""The two-flavour Schwinger model: loop splitting with fitted sectors, and a flow on top."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.bijectors.fitted_flow import FittedFlow, Plaquettes
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.densities.tilted_links import (
    TiltedLinks,
    likeliest_sectors,
    likeliest_windings,
)
from helmflow.energies.schwinger import Schwinger
from helmflow.errors import InputError
from helmflow.estimators.nodes import Nodes
from helmflow.estimators.reweighting import kish_ess
from helmflow.families.gauge.effective_action import (
    ACTION_FIELD,
    effective_couplings,
    fit_to_action,
)
from helmflow.families.gauge.theory import (
    BaselinePlan,
    Baselines,
    FittedGauge,
    GaugeTheory,
    turned_angles,
)
from helmflow.families.gauge.u1 import require_flow_coupling
from helmflow.generalised_work import density_work
from helmflow.manifolds.links import plaquette_angles, topological_charge
from helmflow.samplers.leapfrog import LeapfrogChains
from helmflow.samplers.winding import winding_step
from helmflow.shapes import Configs, Values
from helmflow.skeleton.run import Run, Stage
from helmflow.skeleton.volumes import Shape
from helmflow.system import System

Array = np.ndarray
SHIFTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Couplings of the base above that of the theory, to choose from; fermions order the links."""

PROPOSALS, ROUNDS, PART = 1024, 2, 1024
STEPS = 4
TRAJECTORY = 8
"""Steps of a trajectory of length one."""


class SchwingerTheory(GaugeTheory):
    """``S = -beta sum cos P - 2 ln|det D|``."""

    kind = "the Schwinger model"
    slow = "Q"
    shape: Shape
    fit_samples = 6144
    baseline_plan = BaselinePlan(chains=8, steps=80, burn_in=20, every=4)
    reads = frozenset({"flow.coupling", "flow.steps"})

    def __init__(self, system: System, run: Run) -> None:
        super().__init__(system, run)
        energy = system.energy
        if not isinstance(energy, Schwinger):
            raise InputError("potential.kind", "schwinger", type(energy).__name__)
        require_flow_coupling(self.settings.flow.coupling)
        self.energy, self.shape = energy, energy.shape
        self.beta = system.beta * energy.beta
        self.exact: dict[str, float] = {}

    @property
    def couplings(self) -> dict[str, float | str]:
        """The hopping parameter as well, and the temperature, which acts on fermions, too."""
        return super().couplings | {"kappa": self.energy.kappa, "state": self.system.beta}

    @property
    def fit_evaluations(self) -> int:
        """Of the choice of a coupling, and of samples for three fits."""
        choice = 0 if self.settings.flow.coupling else len(SHIFTS) * PROPOSALS
        return choice + (ROUNDS + 1) * self.fit_samples

    @property
    def baseline_evaluations(self) -> int:
        """Of HMC twice, of winding steps, and of what is set aside."""
        plan = self.baseline_plan
        n_steps = plan.burn_in + plan.steps
        per_chain = n_steps * (2 * (1 + TRAJECTORY) + 2)
        return plan.chains * (per_chain + len(range(plan.burn_in, n_steps, plan.every)))

    def fit(self, samples: Nodes | None, stage: Stage) -> Mapping[str, Tensor]:
        """The best coupling, sectors and windings of the base, then the flow to a loop action.

        There is no path: chains do not pass the zeros of the determinant.
        """
        self._tell(0.0, "coupling of the base")
        coupling = self.settings.flow.coupling
        beta = coupling or max(SHIFTS, key=self._base_ess) + self.energy.beta
        base = TiltedLinks(self.shape, beta=beta)
        generator = self.run.stream("fit")
        for k in range(ROUNDS):
            self._tell((1 + k) / (2 + ROUNDS), "sectors and windings of the base")
            x, log_w = self._weighed(base, self.fit_samples, generator)
            p = torch.softmax(log_w, 0)
            base = TiltedLinks(
                self.shape,
                beta=beta,
                sectors=likeliest_sectors(x, p, beta),
                windings=likeliest_windings(x, p),
            )
        self._tell((1 + ROUNDS) / (2 + ROUNDS), "effective action")
        x, log_w = self._weighed(base, self.fit_samples, generator)
        angles = plaquette_angles(x)
        couplings = effective_couplings(angles, log_w)
        coefficients = fit_to_action(angles, couplings, beta, generator)
        tilt = {"beta": beta, "sectors": base.sectors, "windings": base.windings}
        tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in tilt.items()}
        return {**tensors, "coefficients": coefficients}

    def load(self, tensors: Mapping[str, Tensor]) -> FittedGauge:
        beta, windings = float(tensors["beta"]), tensors["windings"].tolist()
        base = TiltedLinks(
            self.shape,
            beta=beta,
            sectors=tuple(tensors["sectors"].tolist()),
            windings=(windings[0], windings[1]),
        )
        n_steps = self.settings.flow.steps or STEPS
        flow = FittedFlow(ACTION_FIELD, tensors["coefficients"], Plaquettes(), n_steps=n_steps)
        name = f"loop splitting at beta = {beta:.3g} with fitted sectors and windings, "
        name += f"plaquette transport of {tensors['coefficients'].numel()} coefficients"
        return FittedGauge(Flow(base, flow), name, dict(tensors))

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
        return turned_angles(x, generator)

    def baselines(self) -> Baselines:
        """Topological charge under HMC from the pure gauge theory, without and with winding."""
        plan, series = self.baseline_plan, {}
        n_steps = plan.burn_in + plan.steps
        for name, winds in (("HMC", False), ("HMC and winding", True)):
            generator = self.run.stream("baselines")
            base = LoopSplitting(self.shape, beta=self.energy.beta)
            x, _ = base.sample_and_log_prob(plan.chains, generator)
            chains = self.hmc_chains(x, n_steps, generator, winds=winds)
            charge = topological_charge(chains.flatten(0, 1)).round().numpy()
            series[name] = charge.reshape(n_steps, -1).T
        # the chains that wind, without the way to equilibrium
        return Baselines(series, chains[plan.burn_in :: plan.every].flatten(0, 1))

    def _weighed(self, base: Density, n: int, generator: Generator) -> tuple[Configs, Values]:
        """Samples of a base and their log weights."""
        x, log_q = base.sample_and_log_prob(n, generator)
        works = [
            density_work(part, q, self.u)
            for part, q in zip(x.split(PART), log_q.split(PART), strict=True)
        ]
        return x, -torch.cat(works)

    def _base_ess(self, shift: float) -> float:
        base = LoopSplitting(self.shape, beta=self.energy.beta + shift)
        generator = self.run.stream("coupling of the base")
        return kish_ess(self._weighed(base, PROPOSALS, generator)[1].numpy())

    def hmc_chains(
        self, x: Configs, n: int, generator: Generator, *, winds: bool = False
    ) -> Tensor:
        """n configurations of every chain, (n, chains, 2, L0, L1), trajectories of length one.

        ``winds``: one `winding_step` after each, which leads from sector to sector.
        """
        rows = []
        for _ in range(n):
            chains = LeapfrogChains(
                x, self.potential, step=1.0 / TRAJECTORY, n_steps=TRAJECTORY, generator=generator
            )
            chains.run(1)
            x = chains.x
            if winds:
                x, _ = winding_step(x, self.reduced_potential, generator)
            rows.append(x)
        return torch.stack(rows)
