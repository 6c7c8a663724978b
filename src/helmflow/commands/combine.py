"""``helmflow combine``: legs of a cycle, their repeats and analytic terms."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmflow.commands.carry_out import carry_out
from helmflow.commands.estimate import EnergyUnit
from helmflow.commands.mistakes import mistakes_in_one_line
from helmflow.commands.openmm_inputs import AsJson, Out

if TYPE_CHECKING:
    import numpy as np

    from helmflow.results import Result


def combine(
    file: Annotated[Path, typer.Argument(help="TOML of legs and terms; docs/how_to_estimate.md.")],
    unit: Annotated[EnergyUnit, typer.Option(help="Of the last line.")] = EnergyUnit.reduced,
    out: Out = Path("runs/combined"),
    as_json: AsJson = False,
) -> None:
    """Sum of several free-energy differences, with their repeats and analytic terms."""
    with mistakes_in_one_line():
        from helmflow.families.combination import combined, read_combination

        plan = read_combination(file)
        result = combined(plan, file.parent)

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            return result, {}

        settings = {"legs": [leg.name for leg in plan.legs]}
        carry_out(out, [file], settings, compute, as_json=as_json, unit=unit.value)
