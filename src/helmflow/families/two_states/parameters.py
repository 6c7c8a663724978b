"""States of one OpenMM System that differ in its global parameters, such as lambda."""

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

from helmflow.energies.openmm_parameters import Parameters, defaults, with_parameters
from helmflow.errors import InputError
from helmflow.families.two_states.openmm_files import openmm_state
from helmflow.tables import read_toml
from helmflow.thermo import ThermodynamicState

if TYPE_CHECKING:
    import openmm


def openmm_states(
    system: "openmm.System",
    parameters: Sequence[Parameters],
    temperature: float,
    *,
    pressure: float | None = None,
    platform: str = "CPU",
    executor: Executor | None = None,
) -> list[ThermodynamicState]:
    """One state of a System for each set of values of its global parameters.

    ``parameters``: name -> value, as a Context is told them; those that are not named keep their
    defaults. Everything else is as in `openmm_state`. Raises InputError for parameters that no
    force has, values that are not finite, and two states with the same values.
    """
    known = defaults(system)
    seen: list[Parameters] = []
    for k, values in enumerate(parameters):
        full = {**known, **values}
        if full in seen:
            expected = "states that differ"
            raise InputError(
                "parameters", expected, f"states {seen.index(full)} and {k} are equal"
            )
        seen.append(full)
    return [
        openmm_state(
            with_parameters(system, values),
            temperature,
            pressure=pressure,
            platform=platform,
            executor=executor,
        )
        for values in parameters
    ]


def read_parameters(path: Path) -> list[dict[str, float]]:
    """States of a TOML file with a list of values for every parameter, all of one length.

    For example ``lambda_sterics = [1.0, 0.5, 0.0]``. Raises InputError for anything else.
    """
    table: dict[str, list[float]] = {}
    for name, values in read_toml(path, "parameters").items():
        if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
            raise InputError(f"parameters, {name}", "a list with a number for every state", values)
        table[name] = [float(v) for v in values]
    lengths = {name: len(values) for name, values in table.items()}
    if len(set(lengths.values())) != 1 or min(lengths.values()) < 2:
        got = ", ".join(f"{n} of {name}" for name, n in lengths.items()) or "none"
        raise InputError("parameters", "as many values of each, two or more", got)
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
