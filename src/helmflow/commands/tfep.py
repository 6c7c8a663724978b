"""``helmflow tfep`` and ``helmflow merge``: two sampled OpenMM states, whole or in shards."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

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

    from helmflow.families.two_states.shards import Shard
    from helmflow.results import Result

Steps = Annotated[int, typer.Option(min=1, help="Of training: --map trained, periodic, refined.")]
Solute = Annotated[
    str,
    typer.Option(
        help="Particles such as 0,4-7, or origin: the centre of --map transport, periodic and "
        "refined. Default: those whose parameters change."
    ),
]
Part = Annotated[
    str, typer.Option(help="i/n: compute only this part of the works, for `helmflow merge`.")
]


class MapChoice(StrEnum):
    """Maps of ``helmflow tfep``."""

    auto = "auto"
    none = "none"
    gaussian = "gaussian"
    molecule = "molecule"
    trained = "trained"
    scaling = "scaling"
    transport = "transport"
    periodic = "periodic"
    refined = "refined"


def tfep(
    system_a: Annotated[Path, typer.Option(help="OpenMM System of state A, as XML.")],
    system_b: Annotated[Path, typer.Option(help="OpenMM System of state B, as XML.")],
    traj_a: Annotated[Path, typer.Option(help="Trajectory sampled in state A.")],
    traj_b: Annotated[Path, typer.Option(help="Trajectory sampled in state B.")],
    topology: Topology,
    temperature: Temperature,
    pressure: Pressure = None,
    map_: Annotated[MapChoice, typer.Option("--map", help="See docs/tutorial_tfep.md.")] = (
        MapChoice.auto
    ),
    steps: Steps = 600,
    solute: Solute = "",
    shard: Part = "",
    out: Out = Path("runs/tfep"),
    seed: Seed = 0,
    platform: Platform = "CPU",
    threads: Threads = 1,
    start: Start = "0",
    stride: Stride = 1,
    as_json: AsJson = False,
) -> None:
    """Free-energy difference of two sampled OpenMM states, without and with a map."""
    with mistakes_in_one_line(), workers(threads) as executor:
        from helmflow.errors import InputError
        from helmflow.families.two_states.openmm_files import joint_notes, read_states
        from helmflow.families.two_states.openmm_maps import choose_map
        from helmflow.families.two_states.shards import work_shard
        from helmflow.families.two_states.targeted import targeted_fep

        reading = reading_of(start, stride, platform, executor)
        with silent_libraries():
            a, b = read_states(
                [("system-a", system_a), ("system-b", system_b)],
                [("traj-a", traj_a), ("traj-b", traj_b)],
                topology,
                temperature,
                pressure=pressure,
                reading=reading,
            )
        fit, notes = choose_map(map_.value, a, b, steps, solute), joint_notes([a, b])
        pair = (a.state, b.state, a.samples, b.samples)
        if shard:
            if reading.equilibrate:
                raise InputError("start", "a number of frames with --shard", start)
            _write_shard(
                out, work_shard(*pair, part=_part(shard), map=fit, seed=seed, notes=notes)
            )

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            settle, name = reading.equilibrate, out.name
            compared = targeted_fep(
                *pair, map=fit, seed=seed, equilibrate=settle, name=name, notes=notes
            )
            return compared.result, compared.arrays()

        settings = {"map": map_.value, "steps": steps, "solute": solute}
        settings |= inputs(temperature, pressure, seed, threads, reading)
        files = [system_a, system_b, traj_a, traj_b, topology]
        carry_out(out, files, settings, compute, as_json=as_json)


def merge(
    shards: Annotated[Path, typer.Argument(help="Folder of `helmflow tfep --shard` files.")],
    out: Out = Path("runs/merged"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The free-energy difference from all shards of a calculation."""
    with mistakes_in_one_line():
        from helmflow.families.two_states.shard_files import load_shards
        from helmflow.families.two_states.shards import merge_shards

        loaded = load_shards(shards)

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            merged = merge_shards(loaded, seed=seed, name=out.name)
            return merged.result, merged.arrays()

        files = sorted(shards.glob("shard-*.npz"))
        carry_out(out, files, {"seed": seed}, compute, as_json=as_json)


def _write_shard(out: Path, made: "Shard") -> NoReturn:
    from helmflow.families.two_states.shard_files import save_shard

    typer.echo(f"wrote {save_shard(out, made)}")
    raise typer.Exit


def _part(text: str) -> tuple[int, int]:
    """Which shard of how many; raises InputError for anything but i/n."""
    from helmflow.errors import InputError

    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal()):
        raise InputError("shard", "i/n, for example 3/8", text)
    return int(first), int(last)
