"""Global parameters of the forces of an OpenMM System, such as lambda."""

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from helmflow.errors import InputError

if TYPE_CHECKING:
    import openmm

Parameters = Mapping[str, float]
"""Name -> value, as a Context is told them."""


def defaults(system: "openmm.System") -> dict[str, float]:
    """Global parameters of all forces and their default values."""
    return {name: value for _, _, name, value in _each(system)}


def with_parameters(system: "openmm.System", values: Parameters) -> "openmm.System":
    """A copy of the System in which these values are the defaults."""
    known = defaults(system)
    for name, value in values.items():
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise InputError("parameters", f"parameters that a force has ({listed})", name)
        if isinstance(value, bool) or not math.isfinite(float(value)):
            raise InputError(f"parameters, {name}", "a finite number", value)
    changed = copy.deepcopy(system)
    for force, k, name, _ in _each(changed):
        if name in values:
            force.setGlobalParameterDefaultValue(k, float(values[name]))
    return changed


def _each(system: "openmm.System") -> list[tuple[Any, int, str, float]]:
    return [
        (
            force,
            k,
            force.getGlobalParameterName(k),
            float(force.getGlobalParameterDefaultValue(k)),
        )
        for force in system.getForces()
        if hasattr(force, "getNumGlobalParameters")
        for k in range(force.getNumGlobalParameters())
    ]
