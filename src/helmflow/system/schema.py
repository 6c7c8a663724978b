"""The closed schema of a system file; `systems/README.md` explains it to users."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from helmflow.tables import ClosedTable, nearest
from helmflow.units import BOLTZMANN, METRES

Text = Annotated[str, StringConstraints(min_length=1)]
PART = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"
PathName = Annotated[str, StringConstraints(pattern=rf"^{PART}(/{PART})*$", max_length=200)]
Extent = Annotated[int, Field(ge=2, le=4096)]
Positive = Annotated[float, Field(gt=0)]
Vector = tuple[float, float, float]


def _known_unit(unit: str, known: tuple[str, ...]) -> str:
    if unit not in known:
        raise ValueError(f"one of {', '.join(known)}{nearest(unit, known)}")
    return unit


class UnitsTable(ClosedTable):
    """[units]: what the numbers in the file mean."""

    length: str
    energy: str

    @field_validator("length")
    @classmethod
    def _length_is_known(cls, unit: str) -> str:
        return _known_unit(unit, tuple(METRES))

    @field_validator("energy")
    @classmethod
    def _energy_is_known(cls, unit: str) -> str:
        return _known_unit(unit, tuple(BOLTZMANN))

    @model_validator(mode="after")
    def _both_reduced_or_both_physical(self) -> Self:
        if (self.length == "sigma") != (self.energy == "epsilon"):
            raise ValueError("reduced units for both (sigma, epsilon) or for neither")
        return self


class StructureTable(ClosedTable):
    """[structure]: the reference sites of a crystal."""

    file: Text
    cell: tuple[Vector, Vector, Vector] | None = None
    relax: bool = False


class FieldTable(ClosedTable):
    """[field]: the sites of a lattice field."""

    shape: tuple[Extent, Extent]


class StateTable(ClosedTable):
    """[state]: either a temperature or beta itself."""

    temperature: Positive | None = None
    boltzmann_constant: Positive | None = None
    beta: Positive | None = None

    @model_validator(mode="after")
    def _one_way_of_saying_it(self) -> Self:
        if (self.temperature is None) == (self.beta is None):
            raise ValueError("either temperature or beta")
        if self.beta is not None and self.boltzmann_constant is not None:
            raise ValueError("boltzmann_constant only together with temperature")
        return self


class ConventionTable(ClosedTable):
    """[convention]: what the absolute free energy counts."""

    thermal_wavelength: float | str

    @field_validator("thermal_wavelength", mode="before")
    @classmethod
    def _is_positive_or_de_broglie(cls, value: object) -> object:
        if value == "de_broglie":
            return value
        if isinstance(value, int | float) and value is not True and 0 < value < math.inf:
            return value
        raise ValueError("a positive length or 'de_broglie'")


class ReferenceTable(ClosedTable):
    """[[references]]: a published or exact value, never without its source."""

    quantity: Literal[
        "helmholtz_free_energy",
        "free_energy_difference",
        "log_partition_function",
        "mean_energy",
        "chi_2",
        "phi_squared",
        "mean_plaquette",
        "charge_squared",
    ]
    value: float
    stderr: Annotated[float, Field(ge=0)] | None = None
    per: Literal["particle", "system"]
    source: Text
    note: str = ""


class SystemTable(ClosedTable):
    """What every system file says."""

    schema_version: Literal[1] = Field(alias="schema")
    kind: str
    name: PathName
    summary: Text
    cite: tuple[Text, ...] = ()
    potential: dict[str, object] | None = None
    references: tuple[ReferenceTable, ...] = ()


class CrystalTable(SystemTable):
    """A file of kind "crystal"."""

    kind: Literal["crystal"]
    potential: dict[str, object] = Field()
    units: UnitsTable
    structure: StructureTable
    state: StateTable
    convention: ConventionTable


class LatticeFieldTable(SystemTable):
    """A file of kind "lattice_field"."""

    kind: Literal["lattice_field"]
    potential: dict[str, object] = Field()
    field: FieldTable
    state: StateTable = StateTable(beta=1.0)


class GaugeFieldTable(SystemTable):
    """A file of kind "gauge_field": links of a periodic lattice, or one link; Haar measure."""

    kind: Literal["gauge_field"]
    potential: dict[str, object] = Field()
    field: FieldTable | None = None
    state: StateTable = StateTable(beta=1.0)


class DensityTable(SystemTable):
    """A file of kind "density": any unnormalised density on a manifold."""

    kind: Literal["density"]
    potential: dict[str, object] = Field()
    manifold: Text
    state: StateTable = StateTable(beta=1.0)


class TwoStatesTable(SystemTable):
    """A file of kind "two_states": a difference; [final] is what changes in [potential]."""

    kind: Literal["two_states"]
    potential: dict[str, object] = Field()
    final: dict[str, object]
    state: StateTable
