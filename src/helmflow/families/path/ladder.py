"""Sampling every node of the ladder between a Gaussian base and a target."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.estimators.nodes import Nodes
from helmflow.families.path.problem import Problem
from helmflow.fields.base import GradientField, Point
from helmflow.results import Observable
from helmflow.samplers.hmc import ChainState, InterpolatedHMC
from helmflow.skeleton.energy_trial import moved
from helmflow.skeleton.run import Run

MAX_KICKS = 64
SUSPICIOUS = 16
"""Kicks that few energies need: chains that do not move may hold one that is not theirs."""
ACCEPTANCE = (0.55, 0.97)
"""Mean acceptance of the least accepting node outside which the number of kicks changes."""


@dataclass
class Records:
    """What was recorded, one entry per sweep; columns are chains, sorted by node."""

    work: list[Tensor] = field(default_factory=list)  # (chains,)
    controls: list[Tensor] = field(default_factory=list)  # (F, chains)
    observables: list[Tensor] = field(default_factory=list)  # (O, chains at the target)
    accepted: list[Tensor] = field(default_factory=list)  # (chains above the base,)
    counts: Tensor | None = None  # (chains at the target, bins), summed over sweeps


class LadderSampler:
    """Independent draws at lambda = 0 and HMC chains at all other nodes, advanced together.

    ``lam`` (K,) increasing from 0; ``chains`` (K,) how many at each node. Chains start from the
    base. ``generator`` is the only source of randomness, so a sampler restored from ``state``
    continues bit for bit.
    """

    def __init__(
        self,
        problem: Problem,
        base: Gaussian,
        lam: Sequence[float] | np.ndarray,
        chains: Sequence[int] | np.ndarray,
        fields: Sequence[GradientField],
        generator: Generator,
    ) -> None:
        self.problem = problem
        self.base = base
        self._nodes = np.asarray(lam)
        self.node = np.repeat(np.arange(len(lam)), chains)
        self.n_base = int(chains[0])
        column_lam = torch.tensor(lam, dtype=torch.float64)[torch.from_numpy(self.node)]
        self._lam = column_lam
        self._at_target = column_lam[self.n_base :] == 1.0
        self.fields = fields
        self._generator = generator
        self._hmc = InterpolatedHMC(base, problem.target, column_lam[self.n_base :])
        self._draw = InterpolatedHMC(base, problem.target, column_lam[: self.n_base])
        self.n_kicks = 3
        self.records = Records()
        self.moved = 0.0  # kT, by energies that were others when asked for again
        self._state: ChainState | None = None
        self._z: Tensor | None = None  # where restored chains are, until they move
        self._cost: float | None = None

    @property
    def n_sweeps(self) -> int:
        """Sweeps recorded so far."""
        return len(self.records.work)

    @property
    def n_chains(self) -> int:
        """Chains above the base."""
        return len(self.node) - self.n_base

    @property
    def evaluations_per_sweep(self) -> float:
        """Energy evaluations that one sweep takes (before the first: an estimate)."""
        if self._cost is not None:
            return self._cost
        per_chain = self.n_kicks + bool(self.fields) + self.problem.n_jumps
        return float(per_chain * len(self.node))

    def displaced_fraction(self) -> float | None:
        """Fraction of sites that have left their place in the chains at the target."""
        if not self._at_target.any():
            return None
        return self.problem.displaced_fraction(self.target_configurations())

    def target_configurations(self) -> Tensor:
        """Where the chains at the target are, also after a restart: (chains at the target, n)."""
        return self.base.colour(self._whitened()[self._at_target])

    def samples(self) -> Nodes:
        """Everything recorded so far, by node."""
        work, controls = torch.stack(self.records.work), torch.stack(self.records.controls)
        return Nodes.from_columns(self._nodes, self.node, work.numpy(), controls.numpy())

    def curves(self, run: Run) -> Mapping[str, np.ndarray]:
        """Arrays for the report from what was counted on the way."""
        if self.records.counts is None:
            return {}
        counts = self.records.counts / self.n_sweeps
        return self.problem.curves(counts, self.base, run.settings.seed)

    def flow_observables(self) -> list[Observable]:
        """Observables of samples other than the chains, where there are any."""
        return []

    def burn_in(self, n_sweeps: int, progress: Callable[[int, int], None]) -> None:
        """Carry the chains from the base to their nodes, then let them rest there.

        Lambda rises to its value in ``n_sweeps`` sweeps, so that chains stay close to
        equilibrium on the way, and stays there for as many. The number of kicks is tuned all
        along; sweeps at rest count from the last time it grew. ``progress`` is told how many
        sweeps of how many are done.
        """
        n_chains = self.n_chains
        self._state = self._hmc.init(self._noise(n_chains))
        if n_chains == 0:
            return
        for sweep in range(n_sweeps):
            progress(sweep, 2 * n_sweeps)
            lam = self._hmc.lam * ((sweep + 1) / n_sweeps)
            self._tune(InterpolatedHMC(self.base, self.problem.target, lam))
        rest = n_sweeps
        while rest:
            progress(2 * n_sweeps - rest, 2 * n_sweeps)
            rest = n_sweeps if self._tune(self._hmc) else rest - 1

    def _tune(self, hmc: InterpolatedHMC) -> bool:
        """One sweep; whether the number of kicks had to grow after it."""
        accepted = self._move(hmc)
        node = self.node[self.n_base :]
        rate = min(accepted[node == k].double().mean().item() for k in np.unique(node))
        if rate > ACCEPTANCE[1] and self.n_kicks > 2:
            self.n_kicks -= 1
        if rate >= ACCEPTANCE[0] or self.n_kicks >= MAX_KICKS:
            return False
        self.n_kicks += max(1, self.n_kicks // 4)
        if self.n_kicks > SUSPICIOUS:
            self._ask_again()
        return True

    def _ask_again(self) -> ChainState:
        """The chains with energies that are asked for once more, and compared."""
        again = self._hmc.init(self._whitened())
        if self._state is not None and len(again.z):
            self.moved = max(self.moved, moved(self._state.potential, again.potential))
        return again

    def sample(self, n_sweeps: int) -> None:
        """Record ``n_sweeps`` sweeps: one trajectory of every chain and fresh base draws."""
        # Recomputed as after a restart, so that interrupted and whole runs agree bit for bit.
        self._state = self._ask_again()
        before = self.problem.budget.evaluations
        for _ in range(n_sweeps):
            if len(self._state.z):
                self.records.accepted.append(self._advance())
            draw = self._draw.init(self._noise(self.n_base))
            self._record(draw, self._state)
        self._cost = (self.problem.budget.evaluations - before) / n_sweeps

    def start_over(self, fields: Sequence[GradientField]) -> None:
        """Forget all records and record the Stein functions of other fields from now on."""
        self.fields, self.records = fields, Records()

    def state(self) -> dict[str, Tensor]:
        """Everything needed to continue, as tensors."""
        records = self.records
        tensors = {
            "z": self._whitened(),
            "generator": self._generator.get_state(),
            "n_kicks": torch.tensor(self.n_kicks),
            "cost": torch.tensor(self.evaluations_per_sweep, dtype=torch.float64),
            "work": torch.stack(records.work),
            "controls": torch.stack(records.controls),
        }
        if records.accepted:
            tensors["accepted"] = torch.stack(records.accepted)
            tensors["observables"] = torch.stack(records.observables)
        if records.counts is not None:
            tensors["counts"] = records.counts
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what ``state`` returned."""
        self._state, self._z = None, tensors["z"]
        self._generator.set_state(tensors["generator"])
        self.n_kicks = int(tensors["n_kicks"])
        self._cost = float(tensors["cost"])
        names = ("work", "controls", "observables", "accepted")
        lists = {name: list(tensors[name]) for name in names if name in tensors}
        self.records = Records(counts=tensors.get("counts"), **lists)

    def _noise(self, n_chains: int) -> Tensor:
        return self.base.noise(n_chains, self._generator)

    def _whitened(self) -> Tensor:
        """Where the chains are, in whitened coordinates."""
        return self._chains().z if self._z is None or self._state is not None else self._z

    def _chains(self) -> ChainState:
        if self._state is None:
            raise RuntimeError("burn_in or restore comes before sample")
        return self._state

    def _advance(self) -> Tensor:
        return self._move(self._hmc)

    def _move(self, hmc: InterpolatedHMC) -> Tensor:
        """A trajectory of every chain, then the jumps that the problem knows; who accepted it."""
        state, accepted = hmc.step(self._chains(), self.n_kicks, self._generator)
        for _ in range(self.problem.n_jumps):
            landed = self.problem.jump(state.u, self._generator)
            state, _ = hmc.propose(state, landed, self._generator)
        self._state = state
        return accepted

    def _record(self, draw: ChainState, chains: ChainState) -> None:
        self.records.work.append(torch.cat([draw.work, chains.work]))
        parts = [(self._draw.lam, draw), (self._hmc.lam, chains)]
        controls = [self._stein(lam, part) for lam, part in parts if len(part.z)]
        self.records.controls.append(torch.cat(controls, dim=1))
        self._record_target(chains)

    def _record_target(self, chains: ChainState) -> None:
        records, target = self.records, self._at_target
        if target.any():
            u, potential = chains.u[target], chains.potential[target]
            records.observables.append(self.problem.observe(u, potential))
            counts = self.problem.histogram(u)
            if counts is not None:
                records.counts = counts if records.counts is None else records.counts + counts

    def _stein(self, lam: Tensor, chains: ChainState) -> Tensor:
        if not self.fields:
            return torch.empty(0, len(chains.z), dtype=torch.float64)
        slope = chains.z + lam[:, None] * chains.drive  # gradient of u_lambda in z
        point = Point(
            u=chains.u,
            gradient=chains.gradient,
            direction=self.base.colour(slope),
            virial=torch.linalg.vecdot(chains.z, slope),
        )
        return torch.cat([field.stein(point) for field in self.fields])
