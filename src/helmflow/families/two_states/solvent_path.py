"""How reduced potentials change on the way between two states: what fitting a transport needs."""

import torch

from helmflow.energies.openmm import OpenMMEnergy
from helmflow.energies.openmm_path import interpolated_system
from helmflow.errors import InputError
from helmflow.shapes import Particles, Values
from helmflow.thermo import ThermodynamicState
from helmflow.training.solvent_fit import Slopes

DELTA = 0.02
"""Step in lambda of the difference quotient: above the noise of single precision."""

NEAR, FAR, OWN = 4.0, -1.0, -3.0
"""Weights of the quotient of second order from one side: parameters of the ends may be zero."""


def parameter_slopes(a: ThermodynamicState, b: ThermodynamicState) -> Slopes:
    """Those of the path on which every parameter of two OpenMM Systems goes from a's to b's.

    The derivative by lambda is a difference quotient, so it takes two more energies of every
    sample. Raises ``InputError`` for states that are not OpenMM's or whose Systems differ in more
    than numbers.
    """
    energies = {float(k): openmm_energy(s) for k, s in enumerate((a, b))}
    first, last = (energies[lam].system for lam in (0.0, 1.0))

    def between(lam: float) -> OpenMMEnergy:
        like = energies[round(lam)]
        return OpenMMEnergy(
            interpolated_system(first, last, lam),
            platform=like.platform,
            properties=like.properties,
            executor=like.executor,
            chunk=like.chunk,
        )

    # Never outside of [0, 1]: a depth that starts from zero would become negative.
    steps = {0.0: DELTA, 1.0: -DELTA}
    beside = {lam: (between(lam + h), between(lam + 2.0 * h)) for lam, h in steps.items()}
    betas = {0.0: a.beta, 1.0: b.beta}

    def slopes(x: Particles, lam: float) -> tuple[Values, Particles]:
        near, far = (energy(x) for energy in beside[lam])
        energy_here, gradient = energies[lam].energy_and_gradient(x)
        rise = NEAR * near + FAR * far + OWN * energy_here
        slope = betas[lam] * rise / (2.0 * steps[lam])
        return torch.nan_to_num(slope, nan=0.0), betas[lam] * gradient

    return slopes


def linear_slopes(a: ThermodynamicState, b: ThermodynamicState) -> Slopes:
    """Those of the path (1 - lambda) u_a + lambda u_b: for changes that are small everywhere."""

    def slopes(x: Particles, lam: float) -> tuple[Values, Particles]:
        nearer = b if lam > 0.5 else a
        gradient = nearer.beta * openmm_energy(nearer).energy_and_gradient(x)[1]
        slope = b.reduced_potential(x) - a.reduced_potential(x)
        return torch.nan_to_num(slope, nan=0.0), gradient

    return slopes


def openmm_energy(state: ThermodynamicState) -> OpenMMEnergy:
    """The OpenMM energy of a state; ``InputError`` for any other."""
    if not isinstance(state.energy, OpenMMEnergy):
        raise InputError("state", "an OpenMM state", type(state.energy).__name__)
    return state.energy
