"""What a difference between sampled states is, and in which units it can be told."""

import numpy as np

from helmflow.energies.constant_pressure import BOX_ROWS, ConstantPressure
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.families.two_states.endpoints import State
from helmflow.shapes import Configs
from helmflow.skeleton.quantity import Quantity
from helmflow.thermo import ThermodynamicState
from helmflow.units import BOLTZMANN, convert_energy

CONVENTION = (
    "f_B - f_A of the configurational integrals over Cartesian coordinates; momenta and masses "
    "are the same in both states and cancel"
)
TWO_TEMPERATURES = (
    "f_B - f_A of the configurational integrals over Cartesian coordinates, each f in kT of its "
    "own temperature, so that no other unit applies; momenta are left out: for every particle "
    "that moves they would add -3/2 times the change of ln T"
)


def difference(
    convention: str, temperature: float | None, n_particles: int | None = None
) -> Quantity:
    """f_B - f_A in kT, also in kJ/mol, kcal/mol and eV where the temperature (K) is known."""
    units = {}
    if temperature is not None:
        kT = BOLTZMANN["kJ/mol"] * temperature
        units = {u: convert_energy(kT, "kJ/mol", u) for u in BOLTZMANN if u != "epsilon"}
    return Quantity("free_energy_difference", convention, n_particles=n_particles, units=units)


def temperature_of(*states: State) -> float | None:
    """Kelvin, where all states are OpenMM's and share one temperature."""
    kinds = (OpenMMEnergy, ConstantPressure)
    openmm = [
        s for s in states if isinstance(s, ThermodynamicState) and isinstance(s.energy, kinds)
    ]
    betas = {state.beta for state in openmm}
    if len(openmm) < len(states) or len(betas) != 1:
        return None
    return 1.0 / (BOLTZMANN["kJ/mol"] * betas.pop())


def convention_of(*states: State) -> str:
    """What a difference between these states is, which depends on whether they share kT."""
    betas = [s.beta for s in states if isinstance(s, ThermodynamicState)]
    return CONVENTION if np.allclose(betas, betas[:1], rtol=1e-12) else TWO_TEMPERATURES


def particles_of(state: State, x: Configs) -> int | None:
    """Number of particles in configurations x of a state, or None if they have none."""
    if isinstance(getattr(state, "energy", None), ConstantPressure):
        return x.shape[1] - BOX_ROWS
    return x.shape[1] if x.ndim == 3 else None
