"""What a loaded system is: sites, an energy, a temperature, and what is known about the answer."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.manifolds.base import Manifold
from helmflow.shapes import Configs, Values
from helmflow.system.reference import Reference
from helmflow.thermo import ThermodynamicState


@dataclass(frozen=True)
class Units:
    """Names of the units the energy is written in."""

    length: str
    energy: str


@dataclass(frozen=True)
class System:
    """A question: kind "crystal" (n particles, one phase), "lattice_field" or "density".

    ``temperature`` is None where the file gave beta. ``reference_positions`` (n, 3) and ``cell``
    (3, 3, rows are vectors) are None for a lattice field, and ``species`` and
    ``thermal_wavelength`` (one Lambda per particle, in the unit of length) empty. ``digest`` is
    the sha256 of the TOML file and its structure file. ``manifold`` is where a density lives, and
    ``n_particles`` then its dimension. Of kind "two_states" ``final`` is the second state.
    """

    name: str
    kind: str
    summary: str
    n_particles: int
    energy: Energy
    beta: float
    temperature: float | None
    units: Units
    state: ThermodynamicState
    reference_positions: Tensor | None
    cell: Tensor | None
    species: tuple[str, ...]
    thermal_wavelength: tuple[float, ...]
    references: tuple[Reference, ...]
    path: Path
    digest: str
    manifold: Manifold | None = None
    final: ThermodynamicState | None = None

    def reduced_potential(self, x: Configs) -> Values:
        """u(x) = beta U(x) of each configuration, in kT."""
        return self.state.reduced_potential(x)

    @property
    def log_permutations(self) -> float:
        """Sum over species of ln N_s!, the labelings of identical particles."""
        return sum(math.lgamma(count + 1) for count in Counter(self.species).values())

    @property
    def log_thermal_volume(self) -> float:
        """sum_i 3 ln Lambda_i, which is 3 N ln Lambda for one species."""
        return 3.0 * sum(math.log(wavelength) for wavelength in self.thermal_wavelength)

    @property
    def convention(self) -> str:
        """One sentence that says what the absolute free energy of this system counts."""
        if self.manifold is not None:
            return (
                f"ln Z = ln of the integral of exp(-u) over {self.manifold}, its volume "
                f"{math.exp(self.manifold.log_volume):.10g}"
            )
        if self.final is not None:
            return "f_B - f_A of the configurational integrals, in kT; momenta cancel"
        if self.kind == "gauge_field":
            return "ln Z = ln of the integral of exp(-S) over all links, Haar measure (volume one)"
        if self.kind == "lattice_field":
            return "ln Z = ln of the integral of exp(-S) over all sites, Lebesgue measure"
        wavelengths = dict(zip(self.species, self.thermal_wavelength, strict=True))
        values = ", ".join(
            f"Lambda = {value:.10g} {self.units.length}"
            if len(wavelengths) == 1
            else f"Lambda({species}) = {value:.10g} {self.units.length}"
            for species, value in wavelengths.items()
        )
        counted = "N! Lambda^3N" if len(wavelengths) == 1 else "prod_s N_s! Lambda_s^(3 N_s)"
        return (
            f"beta F = -ln[Z / ({counted})], {values}; Z over one crystal basin with all "
            "translations and permutations, no kinetic term other than Lambda"
        )
