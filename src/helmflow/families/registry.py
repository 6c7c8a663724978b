"""Which family answers for which kind of system."""

import importlib
from typing import Any

from helmflow.errors import InputError
from helmflow.families.base import Family
from helmflow.system import System, register_kind

FAMILIES: dict[str, type[Family] | str] = {
    "crystal": "helmflow.families.path.crystal:CrystalFamily",
    "lattice_field": "helmflow.families.path.lattice:LatticeFamily",
    "gauge_field": "helmflow.families.gauge.family:GaugeFamily",
    "density": "helmflow.families.density.family:DensityFamily",
    "two_states": "helmflow.families.growth.family:GrowthFamily",
}
"""By ``System.kind``; those of the package are imported when they are asked for."""


def family_of(system: System) -> Family:
    """The family of a system; raises InputError for a kind that has none, or for no system."""
    if not isinstance(system, System):
        raise InputError("system", "a System, from load_system(name or file)", repr(system))
    family: Any = FAMILIES.get(system.kind)
    if family is None:
        raise InputError("kind", f"one of {', '.join(FAMILIES)}", repr(system.kind))
    if isinstance(family, str):
        module, _, name = family.partition(":")
        family = getattr(importlib.import_module(module), name)
    return family(system)


def register(kind: str, family: type[Family]) -> None:
    """Add a family: files of its ``kind`` then load, run, resume and can be sampled.

    ``family.table`` is the schema of its files (a `SystemTable`) and ``family.build(table, path,
    factory)`` makes the `System`, with ``factory`` the constructor that [potential] names, None
    where there is no such table.
    """
    register_kind(kind, family.table, family.build)
    FAMILIES[kind] = family
