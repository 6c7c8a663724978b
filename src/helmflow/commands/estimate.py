"""``helmflow estimate``: free energies from what other programs have computed."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmflow.commands.carry_out import carry_out
from helmflow.commands.mistakes import mistakes_in_one_line
from helmflow.commands.openmm_inputs import AsJson, Out, Seed

if TYPE_CHECKING:
    import numpy as np

    from helmflow.results import Result


class EnergyUnit(StrEnum):
    """Units of the last line."""

    reduced = "kT"
    joules = "kJ/mol"
    calories = "kcal/mol"
    electronvolts = "eV"


def estimate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="GROMACS .xvg, AMBER .out, NAMD .fepout, GOMC .dat of all states; or one "
            ".parquet, .csv, .npz of u_nk, u_kn or works; or one .nc of replica exchange."
        ),
    ],
    temperature: Annotated[
        float | None, typer.Option(help="In kelvin, where the files do not say it.")
    ] = None,
    unit: Annotated[EnergyUnit, typer.Option(help="Of the last line.")] = EnergyUnit.reduced,
    burn_in: Annotated[
        str, typer.Option(help="auto: from where works have settled; none: all samples.")
    ] = "auto",
    out: Out = Path("runs/estimate"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Free energies of several states from files of other programs."""
    with mistakes_in_one_line():
        from helmflow.data import read_potentials
        from helmflow.errors import InputError
        from helmflow.families.two_states.from_potentials import estimate as estimate_from

        if burn_in not in ("auto", "none"):
            raise InputError("burn-in", "auto or none", burn_in)
        data = read_potentials(files, temperature)
        if unit is not EnergyUnit.reduced and data.temperature is None:
            raise InputError("temperature", f"kelvin, to tell {unit.value}", "none")

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            computed = estimate_from(data, equilibrate=burn_in == "auto", seed=seed, name=out.name)
            return computed.result, computed.arrays()

        settings = {"temperature": data.temperature, "burn_in": burn_in, "seed": seed}
        told = {name: value for name, value in settings.items() if value is not None}
        carry_out(out, files, told, compute, as_json=as_json, unit=unit.value)
