"""The energy of a crystal or a lattice field on trial."""

import torch
from torch import Generator

from helmflow.densities.gaussian import Gaussian
from helmflow.families.path.problem import Problem
from helmflow.skeleton.energy_trial import EnergyTrial
from helmflow.skeleton.force_trial import LINES, ForceTrial

REPEATED = (8, 3)
"""Configurations whose energies are asked for again: of compiled energies, of costly ones."""


def trial_of(problem: Problem, base: Gaussian, goal: float, generator: Generator) -> EnergyTrial:
    """On draws of the base and on the lines to them; ``goal`` in kT for the whole system."""
    lines = base.colour(base.noise(LINES[problem.costly], generator))
    origin = torch.zeros(1, lines.shape[1], dtype=torch.float64)
    return EnergyTrial(
        u=lambda u: problem.target(u)[0],
        x=lines[: REPEATED[problem.costly]],
        goal=goal,
        finite=True,
        # Forces of an energy that jumps miss the jumps; nothing but the sampler then uses them.
        forces=ForceTrial(problem.target, origin, problem.costly) if problem.continuous else None,
        lines=lines,
    )
