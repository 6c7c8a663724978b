"""Free energies of a crystal at another temperature, by harmonically targeted perturbation."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from helmflow.bijectors.affine import HarmonicScaling
from helmflow.densities.gaussian import Gaussian
from helmflow.energies.base import ParticleEnergy
from helmflow.errors import InputError
from helmflow.families.path.crystal_problem import CrystalProblem
from helmflow.families.two_states.endpoints import SampledPair
from helmflow.families.two_states.targeted import TargetedResult, compare, concluded
from helmflow.samplers.hmc import InterpolatedHMC
from helmflow.shapes import Values
from helmflow.skeleton.quantity import Quantity
from helmflow.skeleton.run import Run
from helmflow.system import System

BURN_IN = 20
SPACING = 2
"""Trajectories (quarter periods of every phonon) between samples."""


def temperature_perturbation(
    system: System, temperature: float, *, seed: int = 0, chains: int = 64, records: int = 40
) -> TargetedResult:
    """Change of beta F/N of a crystal from its own temperature to another one, at one volume.

    Chains at both temperatures, and between them the map u -> (T'/T)^(1/2) u of displacements,
    under which the works of a harmonic crystal are all equal:
    ``w_F = beta' U(s u) - beta U(u) - (3N - 3) ln s``. ``plain`` and ``mapped`` are of the whole
    crystal, in kT; ``result`` is per particle, (beta' F' - beta F)/N. The estimates "fep from A"
    need samples at the first temperature only. ``temperature`` is in the unit of the system's
    file; the thermal wavelength is the same at both temperatures.
    Raises ``InputError`` for anything but a crystal with a temperature.
    """
    if system.kind != "crystal" or system.temperature is None:
        raise InputError("system", "a crystal with a temperature", f"{system.name}")
    if not 0.0 < temperature < math.inf:
        raise InputError("temperature", "a positive number", temperature)
    ratio = temperature / system.temperature
    other = at_beta(system, system.beta / ratio, temperature)
    run = Run.in_memory(f"{system.name}, {system.temperature:g} to {temperature:g}", seed)
    samples = [
        crystal_samples(s, run, purpose=f"temperature {k}", chains=chains, records=records)
        for k, s in enumerate((system, other))
    ]
    states = DisplacedPotential(system), DisplacedPotential(other)
    pair = SampledPair.of(*states, *samples)
    return concluded(compare(pair, HarmonicScaling(ratio), _per_particle(system), run), run)


def at_beta(system: System, beta: float, temperature: float) -> System:
    """The same system at another temperature, its thermal wavelength unchanged."""
    return replace(system, beta=beta, temperature=temperature)


def crystal_samples(
    system: System, run: Run, *, purpose: str, chains: int, records: int
) -> Tensor:
    """Displacements (chains x records, 3N) of a crystal at its temperature, chain after chain."""
    problem = CrystalProblem(system, run.budget)
    base = Gaussian(problem.starting_precision(), n_translations=3, cells=problem.symmetry.cells)
    generator = run.stream(purpose)
    hmc = InterpolatedHMC(base, problem.target, torch.ones(chains, dtype=torch.float64))
    state, kicks = hmc.init(base.noise(chains, generator)), 4
    for step in range(BURN_IN):
        state, accepted = hmc.step(state, kicks, generator)
        if step < BURN_IN // 2 and accepted.double().mean() < 0.7:
            kicks += 1
    rows = []
    for _ in range(records):
        for _ in range(SPACING):
            state, _ = hmc.step(state, kicks, generator)
        rows.append(state.u)
    return torch.stack(rows, dim=1).flatten(0, 1)


class DisplacedPotential:
    """Reduced potential (batch,) of displacements (batch, 3N) from the sites."""

    def __init__(self, system: System) -> None:
        if not isinstance(system.energy, ParticleEnergy):
            raise InputError("potential", "one of particles", type(system.energy).__name__)
        self.energy, self.beta = system.energy, system.beta

    def __call__(self, u: Tensor) -> Values:
        return self.beta * self.energy.displaced(u.view(len(u), -1, 3), gradient=False)[0]


def _per_particle(system: System) -> Quantity:
    return Quantity(
        "free_energy_difference",
        f"difference of two values, Lambda unchanged, of: {system.convention}",
        per="particle",
        n_divided=system.n_particles,
        n_particles=system.n_particles,
    )
