"""Chains that take independent proposals of a flow and Hamiltonian trajectories in turn."""

from typing import final

import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.errors import EnergyError, InputError
from helmflow.samplers.leapfrog import LeapfrogChains, Potential
from helmflow.shapes import Values


@final
class MixedChains:
    """Chains x (chains, ...) under exp(-u): a proposal of ``flow`` each, then HMC, and again.

    A proposal x' replaces x with probability ``min(1, exp(log_w' - log_w))``, ``log_w = -u - log
    q``. HMC moves x, so log q is computed anew from the inverse of the flow before the next
    proposal: with the stale value the chain would not leave exp(-u) unchanged. The acceptance
    of proposals depends on p and q alone, but runs of rejections no longer freeze the state.
    ``trajectories`` of HMC follow each proposal, of ``n_steps`` steps of length ``step``; 0 gives
    the plain independence sampler. ``accepted`` and ``proposed`` count proposals of the flow.
    Raises EnergyError for NaN weights, of the proposals and of the current states.
    """

    def __init__(
        self,
        flow: Density,
        potential: Potential,
        n_chains: int,
        *,
        step: float,
        n_steps: int,
        trajectories: int = 1,
        generator: Generator,
    ) -> None:
        if trajectories < 0:
            raise InputError("trajectories", "0 or more per proposal", trajectories)
        self.flow, self.trajectories, self.generator = flow, trajectories, generator
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(n_chains, generator)
        self.chains = LeapfrogChains(x, potential, step=step, n_steps=n_steps, generator=generator)
        self.log_w = _log_weights(self.chains.u, log_q)
        self.accepted = self.proposed = 0

    @property
    def x(self) -> Tensor:
        """The current states (chains, ...)."""
        return self.chains.x

    @property
    def acceptance(self) -> float:
        """Part of the flow's proposals that were accepted."""
        return self.accepted / max(self.proposed, 1)

    def run(self, n_cycles: int) -> Tensor:
        """Advance all chains; the states after each cycle (cycles, chains, ...)."""
        visited = []
        for _ in range(n_cycles):
            self._propose()
            if self.trajectories:
                self.chains.run(self.trajectories)
                with torch.no_grad():
                    log_q = self.flow.log_prob(self.chains.x)
                self.log_w = _log_weights(self.chains.u, log_q)
            visited.append(self.chains.x)
        return torch.stack(visited)

    def _propose(self) -> None:
        chains = self.chains
        with torch.no_grad():
            x, log_q = self.flow.sample_and_log_prob(len(chains.x), self.generator)
        u, gradient = chains.potential(x)
        log_w = _log_weights(u, log_q)
        chance = torch.rand(len(x), generator=self.generator, dtype=torch.float64)
        taken = torch.log1p(-chance) < log_w - self.log_w
        taken |= self.log_w == -torch.inf  # a state of weight zero is always left
        wide = taken.reshape(-1, *[1] * (x.ndim - 1))
        chains.x = torch.where(wide, x, chains.x)
        chains.gradient = torch.where(wide, gradient, chains.gradient)
        chains.u = torch.where(taken, u, chains.u)
        chains.n_evaluations += len(x)
        self.log_w = torch.where(taken, log_w, self.log_w)
        self.accepted += int(taken.sum())
        self.proposed += len(x)


def _log_weights(u: Values, log_q: Values) -> Values:
    log_w = -u - log_q
    if bool((torch.isnan(log_w) | (log_w == torch.inf)).any()):
        raise EnergyError("the weight of a state is NaN or infinite: flow or energy is at fault")
    return log_w
