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

    u: Tensor  # (batch, n) coordinates
    dual: Tensor  # K u
    potential: Values  # reduced target potential at u
    gradient: Tensor  # its gradient
    drive: Tensor  # K^-1 (gradient - K u), zero for a harmonic target
    work: Values  # u_target + ln p_base


class InterpolatedHMC:
    """HMC for u_lambda = -ln p_base + lambda w, with w = u_target + ln p_base.

    The mass matrix is the base's precision, so that the base's own motion is a rotation with unit
    frequency in every mode and is integrated exactly; only lambda grad w is kicked (Strang
    splitting; Shahbaba et al., doi:10.1007/s11222-012-9373-1). A trajectory turns by about a
    quarter period: for lambda = 0 it draws independent samples. One application of K^-1 per kick;
    K u is carried along rather than recomputed.
    """

    def __init__(self, base: Gaussian, target: ValueAndGradient, lam: Values) -> None:
        self.base = base
        self.target = target
        self.lam = lam

    def init(self, u: Tensor) -> ChainState:
        """State of chains standing at u (batch, n); evaluates the target once."""
        return self._evaluate(u, u @ self.base.precision)

    def _evaluate(self, u: Tensor, dual: Tensor) -> ChainState:
        potential, gradient = self.target(u)
        log_prob = -0.5 * torch.linalg.vecdot(u, dual) - self.base.log_normalizer
        drive = (gradient - dual) @ self.base.covariance
        return ChainState(u, dual, potential, gradient, drive, potential + log_prob)

    def step(
        self, state: ChainState, n_kicks: int, generator: Generator
    ) -> tuple[ChainState, Values]:
        """One trajectory of ``n_kicks`` kicks; returns the state and who accepted (bool).

        The angle is drawn from pi/2 (1 +- 0.2), the same for all chains, which breaks resonances.
        """
        batch = len(state.u)
        velocity, momentum = self.base.velocity_and_momentum(batch, generator)
        stretch = 0.8 + 0.4 * torch.rand((), generator=generator, dtype=torch.float64).item()
        angle = 0.5 * math.pi * stretch / n_kicks
        cos, sin = math.cos(angle), math.sin(angle)
        log_uniform = torch.rand(batch, generator=generator, dtype=torch.float64).log()

        before = self._hamiltonian(state, velocity, momentum)
        new = state
        velocity, momentum = self._kick(velocity, momentum, new, 0.5 * angle)
        for remaining in range(n_kicks, 0, -1):
            u = cos * new.u + sin * velocity
            dual = cos * new.dual + sin * momentum
            velocity = cos * velocity - sin * new.u
            momentum = cos * momentum - sin * new.dual
            new = self._evaluate(u, dual)
            size = angle if remaining > 1 else 0.5 * angle
            velocity, momentum = self._kick(velocity, momentum, new, size)
        accepted = log_uniform < before - self._hamiltonian(new, velocity, momentum)
        return _select(accepted, new, state), accepted

    def _kick(
        self, velocity: Tensor, momentum: Tensor, state: ChainState, size: float
    ) -> tuple[Tensor, Tensor]:
        lam = self.lam[:, None]
        velocity = torch.addcmul(velocity, lam, state.drive, value=-size)
        momentum = torch.addcmul(momentum, lam, state.gradient - state.dual, value=-size)
        return velocity, momentum

    def _hamiltonian(self, state: ChainState, velocity: Tensor, momentum: Tensor) -> Values:
        kinetic = 0.5 * torch.linalg.vecdot(velocity, momentum)
        harmonic = 0.5 * torch.linalg.vecdot(state.u, state.dual)
        return harmonic + self.lam * state.work + kinetic


def _select(accepted: Tensor, new: ChainState, old: ChainState) -> ChainState:
    rows = [
        torch.where(accepted if a.ndim == 1 else accepted[:, None], a, b)
        for a, b in zip(new, old, strict=True)
    ]
    return ChainState(*rows)
