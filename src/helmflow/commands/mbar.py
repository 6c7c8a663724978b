"""``helmflow mbar``: several sampled OpenMM states."""

from collections.abc import Mapping, Sequence
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
    reading_of,
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
    parameters: Annotated[
        Path | None,
        typer.Option(help="TOML with lists such as lambda = [1.0, 0.5]: states of one System."),
    ] = None,
    pressure: Pressure = None,
    out: Out = Path("runs/mbar"),
    seed: Seed = 0,
    platform: Platform = "CPU",
    threads: Threads = 1,
    start: Start = "0",
    stride: Stride = 1,
    as_json: AsJson = False,
) -> None:
    """Free energies of several sampled OpenMM states, in the order given."""
    with mistakes_in_one_line(), workers(threads) as executor:
        from helmflow.families.two_states.multistate import multistate
        from helmflow.families.two_states.openmm_files import joint_notes, read_states
        from helmflow.families.two_states.parameters import read_parameters

        told = None if parameters is None else read_parameters(parameters)
        reading = reading_of(start, stride, platform, executor)
        with silent_libraries():
            sampled = read_states(
                _systems(system, told),
                [(f"traj {k}", path) for k, path in enumerate(traj)],
                topology,
                temperature,
                pressure=pressure,
                reading=reading,
                parameters=told,
            )

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            states, samples = [s.state for s in sampled], [s.samples for s in sampled]
            notes = joint_notes(sampled)
            computed = multistate(
                states,
                samples,
                seed=seed,
                equilibrate=reading.equilibrate,
                name=out.name,
                notes=notes,
            )
            return computed.result, computed.arrays()

        settings = inputs(temperature, pressure, seed, threads, reading)
        files = [*system, *traj, topology, *([] if parameters is None else [parameters])]
        carry_out(out, files, settings, compute, as_json=as_json)


def _systems(
    paths: Sequence[Path], told: Sequence[Mapping[str, float]] | None
) -> list[tuple[str, Path]]:
    """Names and files of the Systems; with parameters one serves all states."""
    from helmflow.errors import InputError

    if told is None:
        return [(f"system {k}", path) for k, path in enumerate(paths)]
    if len(paths) != 1:
        raise InputError("system", "one for all states of --parameters", len(paths))
    return [("system", paths[0])] * len(told)
