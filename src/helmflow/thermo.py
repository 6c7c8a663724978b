"""Thermodynamic states: where an energy with a unit becomes a reduced potential without one."""

from dataclasses import dataclass

from helmflow.energies.base import Energy
from helmflow.shapes import Configs, Values


@dataclass(frozen=True)
class ThermodynamicState:
    """The canonical ensemble of an energy at one temperature.

    ``beta`` = 1 / (k_B T) in the inverse of the energy's unit, so that the reduced potential
    u(x) = beta U(x) is dimensionless (kT).
    """

    energy: Energy
    beta: float

    def reduced_potential(self, x: Configs) -> Values:
        """u(x) = beta U(x) of each configuration, in kT."""
        return self.beta * self.energy(x)
