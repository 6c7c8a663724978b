"""Sampling every node of the ladder between a Gaussian base and a target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.fields.base import Field, Point
from helmflow.recipes.problem import Problem
from helmflow.samplers.hmc import ChainState, InterpolatedHMC

MAX_KICKS = 64
ACCEPTANCE = (0.65, 0.92)
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
        lam: Sequence[float],
        chains: Sequence[int],
        fields: Sequence[Field],
        generator: Generator,
    ) -> None:
        self.problem = problem
        self.base = base
        self.node = np.repeat(np.arange(len(lam)), chains)
        self.n_base = int(chains[0])
        column_lam = torch.tensor(lam, dtype=torch.float64)[torch.from_numpy(self.node)]
        self._lam = column_lam
        self._at_target = column_lam[self.n_base :] == 1.0
        self._fields = fields
        self._generator = generator
        self._hmc = InterpolatedHMC(base, problem.target, column_lam[self.n_base :])
        self._draw = InterpolatedHMC(base, problem.target, column_lam[: self.n_base])
        self.n_kicks = 2
        self.records = Records()
        self._state: ChainState | None = None

    @property
    def n_sweeps(self) -> int:
        """Sweeps recorded so far."""
        return len(self.records.work)

    @property
    def target_positions(self) -> Tensor:
        """Where the chains at lambda = 1 stand now."""
        return self._chains().u[self._at_target]

    def burn_in(self, n_sweeps: int) -> None:
        """Advance the chains without recording; tune the number of kicks on the way."""
        n_chains = len(self._lam) - self.n_base
        self._state = self._hmc.init(self.base.sample(n_chains, self._generator))
        sweep = 0
        while n_chains and sweep < n_sweeps:
            accepted = self._advance()
            lowest = self._by_node(accepted.double()).min()
            if lowest < ACCEPTANCE[0] and self.n_kicks < MAX_KICKS:
                self.n_kicks += max(1, self.n_kicks // 4)
                # What was burnt with far too few kicks hardly moved: start counting again.
                sweep = 0 if lowest < 0.2 else sweep + 1
            else:
                too_fine = lowest > ACCEPTANCE[1] and self.n_kicks > 2 and sweep < n_sweeps // 2
                self.n_kicks -= int(too_fine)
                sweep += 1

    def sample(self, n_sweeps: int) -> None:
        """Record ``n_sweeps`` sweeps: one trajectory of every chain and fresh base draws."""
        # Recomputing what is carried along keeps rounding from accumulating and makes the state
        # a function of u alone, which is what a checkpoint holds.
        self._state = self._hmc.init(self._chains().u)
        for _ in range(n_sweeps):
            if len(self._state.u):
                self.records.accepted.append(self._advance())
            draw = self._draw.init(self.base.sample(self.n_base, self._generator))
            self._record(draw, self._state)

    def state(self) -> dict[str, Tensor]:
        """Everything needed to continue, as tensors."""
        records = self.records
        tensors = {
            "u": self._chains().u,
            "generator": self._generator.get_state(),
            "n_kicks": torch.tensor(self.n_kicks),
            "n_evaluations": torch.tensor(self.problem.n_evaluations),
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
        self._state = self._hmc.init(tensors["u"])
        self._generator.set_state(tensors["generator"])
        self.n_kicks = int(tensors["n_kicks"])
        self.problem.n_evaluations = int(tensors["n_evaluations"])
        names = ("work", "controls", "observables", "accepted")
        lists = {name: list(tensors[name]) for name in names if name in tensors}
        self.records = Records(counts=tensors.get("counts"), **lists)

    def _chains(self) -> ChainState:
        if self._state is None:
            raise RuntimeError("burn_in or restore comes before sample")
        return self._state

    def _advance(self) -> Tensor:
        self._state, accepted = self._hmc.step(self._chains(), self.n_kicks, self._generator)
        return accepted

    def _by_node(self, values: Tensor) -> np.ndarray:
        node = self.node[self.n_base :]
        return np.array([values[node == k].mean().item() for k in np.unique(node)])

    def _record(self, draw: ChainState, chains: ChainState) -> None:
        records, target = self.records, self._at_target
        records.work.append(torch.cat([draw.work, chains.work]))
        parts = [(self._draw.lam, draw), (self._hmc.lam, chains)]
        controls = [self._stein(lam, part) for lam, part in parts if len(part.u)]
        records.controls.append(torch.cat(controls, dim=1))
        if target.any():
            u, potential = chains.u[target], chains.potential[target]
            records.observables.append(self.problem.observe(u, potential))
            counts = self.problem.histogram(u)
            if counts is not None:
                records.counts = counts if records.counts is None else records.counts + counts

    def _stein(self, lam: Tensor, chains: ChainState) -> Tensor:
        direction = chains.u + lam[:, None] * chains.drive
        point = Point(chains.u, chains.dual, chains.gradient, direction)
        rows = [field.stein(point) for field in self._fields]
        return torch.cat(rows) if rows else torch.empty(0, len(chains.u), dtype=torch.float64)
