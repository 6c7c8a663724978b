"""``helmflow mbar``: several sampled OpenMM states."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmflow.commands.carry_out import carry_out
from helmflow.commands.mistakes import mistakes_in_one_line
from helmflow.commands.openmm_inputs import (
    AsJson,
    Out,
    Platform,
    Pressure,
    Seed,
    Start,
    Stride,
    Temperature,
    Threads,
    Topology,
    inputs,
    silent_libraries,
    workers,
)

if TYPE_CHECKING:
    import numpy as np

    from helmflow.results import Result


def mbar(
    system: Annotated[list[Path], typer.Option(help="OpenMM System as XML; once per state.")],
    traj: Annotated[list[Path], typer.Option(help="Its trajectory; once per state.")],
    topology: Topology,
    temperature: Temperature,
    pressure: Pressure = None,
    out: Out = Path("runs/mbar"),
    seed: Seed = 0,
    platform: Platform = "CPU",
    threads: Threads = 1,
    start: Start = 0,
    stride: Stride = 1,
    as_json: AsJson = False,
) -> None:
    """Free energies of several sampled OpenMM states, in the order given."""
    with mistakes_in_one_line(), workers(threads) as executor:
        from helmflow.families.two_states.multistate import multistate
        from helmflow.families.two_states.openmm_files import joint_notes, read_states

        with silent_libraries():
            found = read_states(
                [(f"system {k}", path) for k, path in enumerate(system)],
                [(f"traj {k}", path) for k, path in enumerate(traj)],
                topology,
                temperature,
                pressure=pressure,
                platform=platform,
                executor=executor,
                start=start,
                stride=stride,
            )

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            states, samples = [s.state for s in found], [s.samples for s in found]
            made = multistate(states, samples, seed=seed, name=out.name)
            return made.result, made.arrays()

        settings = inputs(temperature, pressure, seed, platform, threads, start, stride)
        files = [*system, *traj, topology]
        carry_out(out, files, settings, compute, joint_notes(found), as_json=as_json)
