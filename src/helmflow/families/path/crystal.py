"""Absolute free energies of crystals."""

from torch import Tensor

from helmflow.families.path.crystal_problem import CrystalProblem, log_measure
from helmflow.families.path.family import PathFamily
from helmflow.skeleton.budget import Budget
from helmflow.skeleton.quantity import Quantity
from helmflow.units import BOLTZMANN, convert_energy


class CrystalFamily(PathFamily):
    """Absolute free energies of crystals."""

    noun = "a crystal"
    methods = ("auto", "fep", "bar", "ti", "frenkel_ladd", "flow")
    target_error = 1e-4
    flow_kinds = ("transport", "coupling", "local")

    def problem(self, budget: Budget) -> CrystalProblem:
        """Displacements from the sites."""
        return CrystalProblem(self.system, budget)

    @property
    def quantity(self) -> Quantity:
        """F/N in kT, also in the system's unit and, where that is physical, the usual others."""
        system, unit = self.system, self.system.units.energy
        scales = {unit: 1.0}
        if unit != "epsilon":
            physical = [name for name in BOLTZMANN if name != "epsilon"]
            scales = {name: convert_energy(1.0, unit, name) for name in physical}
        return Quantity(
            "helmholtz_free_energy",
            system.convention,
            per="particle",
            constant=log_measure(system),
            n_divided=system.n_particles,
            n_particles=system.n_particles,
            units={name: scale / system.beta for name, scale in scales.items()},
            length_unit=system.units.length,
            references=system.references,
        )

    def configurations(self, x: Tensor) -> Tensor:
        """Positions (batch, N, 3) from displacements."""
        return self.system.sites_and_cell[0] + x.view(len(x), -1, 3)
