"""Kinds of systems: the schema of their files."""

from helmflow.system.schema import (
    CrystalTable,
    DensityTable,
    GaugeFieldTable,
    LatticeFieldTable,
    SystemTable,
    TwoStatesTable,
)

TABLES: dict[str, type[SystemTable]] = {
    "crystal": CrystalTable,
    "lattice_field": LatticeFieldTable,
    "gauge_field": GaugeFieldTable,
    "density": DensityTable,
    "two_states": TwoStatesTable,
}
"""By what ``kind`` says; `helmflow.system.load.register_kind` adds others."""
