"""``helmflow tfep`` and ``helmflow merge``: two sampled OpenMM states, whole or in shards."""

from collections.abc import Mapping
from enum import StrEnum
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

    from helmflow.bijectors.base import Bijector
    from helmflow.families.two_states.openmm_files import Sampled
    from helmflow.results import Result
    from helmflow.training.map_fit import MapFit

Steps = Annotated[int, typer.Option(min=1, help="Of training: --map trained, periodic, refined.")]
Solute = Annotated[
    str,
    typer.Option(
        help="Particles such as 0,4-7, or origin: the centre of --map transport, periodic and "
        "refined. Default: those whose parameters change."
    ),
]
Shard = Annotated[
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
    shard: Shard = "",
    out: Out = Path("runs/tfep"),
    seed: Seed = 0,
    platform: Platform = "CPU",
    threads: Threads = 1,
    start: Start = 0,
    stride: Stride = 1,
    as_json: AsJson = False,
) -> None:
    """Free-energy difference of two sampled OpenMM states, without and with a map."""
    with mistakes_in_one_line(), workers(threads) as executor:
        from helmflow.families.two_states.openmm_files import joint_notes, read_states
        from helmflow.families.two_states.openmm_maps import choose_map
        from helmflow.families.two_states.targeted import targeted_fep

        with silent_libraries():
            a, b = read_states(
                [("system-a", system_a), ("system-b", system_b)],
                [("traj-a", traj_a), ("traj-b", traj_b)],
                topology,
                temperature,
                pressure=pressure,
                platform=platform,
                executor=executor,
                start=start,
                stride=stride,
            )
        chosen = choose_map(map_.value, a, b, steps, solute)
        if shard:
            made = _shard(a, b, shard, chosen, seed, out)
            typer.echo(f"wrote {made}")
            raise typer.Exit

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            found = targeted_fep(
                a.state, b.state, a.samples, b.samples, map=chosen, seed=seed, name=out.name
            )
            return found.result, found.arrays()

        settings = {"map": map_.value, "steps": steps, "solute": solute}
        settings |= inputs(temperature, pressure, seed, platform, threads, start, stride)
        files = [system_a, system_b, traj_a, traj_b, topology]
        carry_out(out, files, settings, compute, joint_notes([a, b]), as_json=as_json)


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
            found = merge_shards(loaded, seed=seed, name=out.name)
            return found.result, found.arrays()

        files = sorted(shards.glob("shard-*.npz"))
        carry_out(out, files, {"seed": seed}, compute, [], as_json=as_json)


def _shard(
    a: "Sampled", b: "Sampled", text: str, fit: "Bijector | MapFit | None", seed: int, out: Path
) -> Path:
    from helmflow.errors import InputError
    from helmflow.families.two_states.openmm_files import joint_notes
    from helmflow.families.two_states.shard_files import save_shard
    from helmflow.families.two_states.shards import work_shard

    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal()):
        raise InputError("shard", "i/n, for example 3/8", text)
    part = (int(first), int(last))
    states, samples = (a.state, b.state), (a.samples, b.samples)
    made = work_shard(*states, *samples, part=part, map=fit, seed=seed, notes=joint_notes([a, b]))
    return save_shard(out, made)
