"""The path along which a sphere grows in a solvent, and samples on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from helmflow.energies.growing_sphere import GrowingSphere
from helmflow.samplers.leapfrog import LeapfrogChains
from helmflow.shapes import Particles, Values
from helmflow.skeleton.budget import Budget
from helmflow.thermo import ThermodynamicState

STEP, N_STEPS = 0.016, 25
"""Leapfrog step in sigma/kT^(1/2) and steps of a trajectory: neighbouring ones are independent."""

BURN_IN = (8, 32)
"""Trajectories before the first sample: with half the step from the lattice, then as usual."""


@dataclass(frozen=True)
class GrowthPath:
    """u_lambda = beta U(x; R(lambda)) with R(lambda) = R_A + lambda (R_B - R_A)."""

    energy: GrowingSphere  # at R_A
    radius_b: float
    beta: float
    budget: Budget = field(default_factory=Budget)

    @property
    def states(self) -> tuple[ThermodynamicState, ThermodynamicState]:
        """Both ends."""
        larger = self.energy.at(self.radius_b)
        return ThermodynamicState(self.energy, self.beta), ThermodynamicState(larger, self.beta)

    @property
    def radii(self) -> tuple[float, float]:
        """R_A and R_B."""
        return self.energy.radius, self.radius_b

    def evaluate(self, x: Particles, lam: Tensor) -> tuple[Values, Values, Particles]:
        """u_lambda, d u_lambda/d lambda and the gradient of u_lambda, with a lambda per row."""
        self.budget.spend(len(x))
        radii = self.energy.radius + lam * (self.radius_b - self.energy.radius)
        energy, by_radius, gradient = self.energy.evaluate(x, radii)
        growth = self.beta * (self.radius_b - self.energy.radius)
        return self.beta * energy, growth * by_radius, self.beta * gradient

    def chains(
        self, lam: Sequence[float], n_chains: Sequence[int], generator: Generator
    ) -> LeapfrogChains:
        """Equilibrated chains, ``n_chains[k]`` of them at ``lam[k]``, one after the other."""
        rows = torch.repeat_interleave(
            torch.tensor(lam, dtype=torch.float64), torch.tensor(list(n_chains))
        )

        def potential(x: Tensor) -> tuple[Tensor, Tensor]:
            u, _, gradient = self.evaluate(x, rows)
            return u, gradient

        start = lattice_around(self.energy.n_particles, self.energy.box)
        noise = torch.randn((len(rows), *start.shape), generator=generator, dtype=torch.float64)
        x = start + 0.03 * noise
        moved = LeapfrogChains(x, potential, step=0.5 * STEP, n_steps=N_STEPS, generator=generator)
        moved.run(BURN_IN[0])
        moved.step = STEP
        moved.run(BURN_IN[1])
        moved.accepted = moved.proposed = 0
        return moved


def evaluations_of_chains(n_chains: int, n_trajectories: int) -> int:
    """Energies that so many chains and trajectories after the burn-in take."""
    return n_chains * (1 + N_STEPS * (sum(BURN_IN) + n_trajectories))


def record(chains: LeapfrogChains, n_records: int, spacing: int) -> Tensor:
    """Successive samples (n_records, chains, n, 3), ``spacing`` trajectories apart."""
    samples = torch.empty((n_records, *chains.x.shape), dtype=torch.float64)
    for row in samples:
        chains.run(spacing)
        row.copy_(chains.x)
    return samples


def lattice_around(n: int, box: float) -> Particles:
    """The n sites of a simple cubic lattice that are farthest from the centre of a cube."""
    side = 1
    while side**3 < 1.7 * n:
        side += 1
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) * (box / side) - 0.5 * box
    sites = torch.cartesian_prod(axis, axis, axis)
    order = torch.argsort(sites.square().sum(1), descending=True, stable=True)
    return sites[order[:n]]
