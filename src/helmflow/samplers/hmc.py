"""Hamiltonian Monte Carlo on the path from a Gaussian base to a target, batched over chains."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.shapes import Values

ValueAndGradient = Callable[[Tensor], tuple[Values, Tensor]]
"""u (batch, n) -> reduced potential (batch,) and its gradient (batch, n), in kT."""


class ChainState(NamedTuple):
    """What the next trajectory needs, one row per chain."""

    z: Tensor  # (batch, n) whitened coordinates, u = base.colour(z)
    u: Tensor  # (batch, n)
    potential: Values  # reduced target potential at u
    gradient: Tensor  # its gradient with respect to u
    drive: Tensor  # gradient of the work with respect to z
    work: Values  # u_target + ln p_base


class InterpolatedHMC:
    """HMC for u_lambda = -ln p_base + lambda w, with w = u_target + ln p_base.

    Runs in the whitened coordinates of the base, where the base is a unit oscillator in every
    direction: its motion is a rotation and is integrated exactly, and only lambda grad w is kicked
    (Strang splitting; Shahbaba et al., doi:10.1007/s11222-012-9373-1). A trajectory turns by about
    a quarter period: for lambda = 0 it draws independent samples.

    lam: (batch,) the lambda of every chain.
    """

    def __init__(self, base: Gaussian, target: ValueAndGradient, lam: Values) -> None:
        self.base = base
        self.target = target
        self.lam = lam

    def init(self, z: Tensor) -> ChainState:
        """State of chains at whitened coordinates z (batch, n); evaluates the target once."""
        u = self.base.colour(z)
        potential, gradient = self.target(u)
        log_prob = -0.5 * z.square().sum(1) - self.base.log_normalizer
        drive = self.base.pull(gradient) - z
        return ChainState(z, u, potential, gradient, drive, potential + log_prob)

    def step(
        self, state: ChainState, n_kicks: int, generator: Generator
    ) -> tuple[ChainState, Tensor]:
        """One trajectory of ``n_kicks`` kicks; returns the state and who accepted (bool).

        The angle is drawn from pi/2 (1 +- 0.2), the same for all chains, which breaks resonances.
        """
        batch = len(state.z)
        velocity = self.base.noise(batch, generator)
        stretch = 0.8 + 0.4 * torch.rand((), generator=generator, dtype=torch.float64).item()
        log_uniform = torch.rand(batch, generator=generator, dtype=torch.float64).log()
        angle = 0.5 * math.pi * stretch / n_kicks
        cos, sin = math.cos(angle), math.sin(angle)
        lam = self.lam[:, None]

        before = self._hamiltonian(state, velocity)
        new = state
        velocity = torch.addcmul(velocity, lam, new.drive, value=-0.5 * angle)
        for remaining in range(n_kicks, 0, -1):
            z = cos * new.z + sin * velocity
            velocity = cos * velocity - sin * new.z
            new = self.init(z)
            size = angle if remaining > 1 else 0.5 * angle
            velocity = torch.addcmul(velocity, lam, new.drive, value=-size)
        accepted = log_uniform < before - self._hamiltonian(new, velocity)
        return _select(accepted, new, state), accepted

    def propose(
        self, state: ChainState, u: Tensor, generator: Generator
    ) -> tuple[ChainState, Tensor]:
        """Accept symmetric proposals u (batch, n) or stay; returns the state and who accepted."""
        new = self.init(self.base.whiten(u))
        at_rest = torch.zeros_like(state.z)
        change = self._hamiltonian(state, at_rest) - self._hamiltonian(new, at_rest)
        chance = torch.rand(len(u), generator=generator, dtype=torch.float64)
        accepted = chance.log() < change
        return _select(accepted, new, state), accepted

    def _hamiltonian(self, state: ChainState, velocity: Tensor) -> Values:
        free = 0.5 * (state.z.square().sum(1) + velocity.square().sum(1))
        return free + self.lam * state.work


def _select(accepted: Tensor, new: ChainState, old: ChainState) -> ChainState:
    rows = [
        torch.where(accepted if a.ndim == 1 else accepted[:, None], a, b)
        for a, b in zip(new, old, strict=True)
    ]
    return ChainState(*rows)
