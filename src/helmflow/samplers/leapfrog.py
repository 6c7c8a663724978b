"""Hamiltonian Monte Carlo of many independent chains, each with a state of its own."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from helmflow.shapes import Configs, Values

Potential = Callable[[Configs], tuple[Values, Configs]]
"""Reduced potentials (batch,) of the chains' own states, and gradients shaped like x."""


class LeapfrogChains:
    """Chains x (chains, ...) under exp(-u), unit masses, all moved together.

    A trajectory is ``n_steps`` leapfrog steps of length ``step`` (in the unit of x over kT^(1/2))
    and a Metropolis test on u + v^2/2, so the chains are exact for any step. The step of each
    trajectory is drawn from ``step (0.8 ... 1.2)``, against resonances. ``accepted`` and
    ``proposed`` count; ``n_evaluations`` counts energies.
    Source: S. Duane et al., doi:10.1016/0370-2693(87)91197-X.
    """

    def __init__(
        self, x: Configs, potential: Potential, *, step: float, n_steps: int, generator: Generator
    ) -> None:
        self.x = x.clone()
        self.potential = potential
        self.step, self.n_steps = step, n_steps
        self.generator = generator
        self.u, self.gradient = potential(self.x)
        self.accepted = self.proposed = 0
        self.n_evaluations = len(x)

    def run(self, n_trajectories: int) -> None:
        """Move every chain by this many trajectories."""
        for _ in range(n_trajectories):
            self._trajectory()

    def _trajectory(self) -> None:
        v = torch.randn(self.x.shape, generator=self.generator, dtype=torch.float64)
        scale = 0.8 + 0.4 * float(torch.rand(1, generator=self.generator, dtype=torch.float64))
        h = scale * self.step
        x, gradient, u = self.x.clone(), self.gradient, self.u
        before = self.u + _kinetic(v)
        v.add_(gradient, alpha=-0.5 * h)
        for k in range(self.n_steps):
            x.add_(v, alpha=h)
            u, gradient = self.potential(x)
            v.add_(gradient, alpha=-h if k + 1 < self.n_steps else -0.5 * h)
        chance = torch.rand(len(x), generator=self.generator, dtype=torch.float64)
        # A trajectory that ends in NaN compares false and is rejected.
        taken = chance.log() < before - u - _kinetic(v)
        shape = (-1, *[1] * (x.ndim - 1))
        self.x = torch.where(taken.reshape(shape), x, self.x)
        self.gradient = torch.where(taken.reshape(shape), gradient, self.gradient)
        self.u = torch.where(taken, u, self.u)
        self.accepted += int(taken.sum())
        self.proposed += len(x)
        self.n_evaluations += self.n_steps * len(x)


def _kinetic(v: Tensor) -> Tensor:
    return 0.5 * v.flatten(1).square().sum(1)
