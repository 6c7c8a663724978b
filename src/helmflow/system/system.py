"""What a loaded system is: sites, an energy, a temperature, and what is known about the answer."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.errors import InputError
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
    """A question about an energy at one temperature; ``kind`` says of which family.

    ``convention``: one sentence that says what the value counts.

    ``temperature`` is None where the file gave beta. ``reference_positions`` (n, 3) and ``cell``
    (3, 3, rows are vectors) are None for a lattice field, and ``species`` and
    ``thermal_wavelength`` (one Lambda per particle, in the unit of length) empty. ``digest`` is
    the sha256 of the TOML file and its structure file. ``manifold`` is where a density lives, and
    ``n_particles`` then its dimension. Of kind "two_states" ``final`` is the second state.
    """

    name: str
    kind: str
    energy: Energy
    beta: float
    n_particles: int
    summary: str = ""
    temperature: float | None = None
    units: Units = Units("sigma", "kT")
    reference_positions: Tensor | None = None
    cell: Tensor | None = None
    species: tuple[str, ...] = ()
    thermal_wavelength: tuple[float, ...] = ()
    references: tuple[Reference, ...] = ()
    convention: str = ""
    path: Path = Path()
    digest: str = ""
    manifold: Manifold | None = None
    final: ThermodynamicState | None = None

    @property
    def state(self) -> ThermodynamicState:
        """The energy at its temperature."""
        return ThermodynamicState(self.energy, self.beta)

    def reduced_potential(self, x: Configs) -> Values:
        """u(x) = beta U(x) of each configuration, in kT."""
        return self.state.reduced_potential(x)

    @property
    def sites_and_cell(self) -> tuple[Tensor, Tensor]:
        """``reference_positions`` and ``cell`` of a crystal; raises InputError for others."""
        if self.reference_positions is None or self.cell is None:
            raise InputError("system", "a crystal", f"{self.name}, which has no sites")
        return self.reference_positions, self.cell

    @property
    def shape(self) -> tuple[int, int]:
        """Extents of the lattice of a field; raises InputError for others."""
        shape = tuple(getattr(self.energy, "shape", ()))
        if len(shape) != 2:
            raise InputError("system", "a lattice field", f"{self.name}, which has no lattice")
        return shape

    @property
    def log_permutations(self) -> float:
        """Sum over species of ln N_s!, the labelings of identical particles."""
        return sum(math.lgamma(count + 1) for count in Counter(self.species).values())

    @property
    def log_thermal_volume(self) -> float:
        """sum_i 3 ln Lambda_i, which is 3 N ln Lambda for one species."""
        return 3.0 * sum(math.log(wavelength) for wavelength in self.thermal_wavelength)
