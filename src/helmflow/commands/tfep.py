"""``helmflow tfep`` and ``helmflow mbar``: free-energy differences from OpenMM files."""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmflow.commands.keep import keep, summary
from helmflow.commands.mistakes import mistakes_in_one_line

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np

    from helmflow.bijectors.base import Bijector
    from helmflow.recipes.two_states.openmm_files import Sampled
    from helmflow.results import Result
    from helmflow.training.map_fit import MapFit

Topology = Annotated[Path, typer.Option(help="PDB of the particles, in the systems' order.")]
Temperature = Annotated[float, typer.Option(help="Of both states, in kelvin.")]
Pressure = Annotated[
    float | None, typer.Option(help="Of both states, in bar, if a barostat was at work.")
]
Out = Annotated[Path, typer.Option(help="Directory for result.json, work.npz and report.html.")]
Seed = Annotated[int, typer.Option(help="Of every random number.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print result.json instead.")]
Platform = Annotated[str, typer.Option(help="OpenMM platform; Reference is double precision.")]
Threads = Annotated[int, typer.Option(min=1, help="Configurations evaluated at a time.")]
Start = Annotated[int, typer.Option(min=0, help="First frame used (equilibration ends).")]
Stride = Annotated[int, typer.Option(min=1, help="Every n-th frame is used.")]

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
    with mistakes_in_one_line(), _workers(threads) as executor:
        from helmflow.recipes.two_states.openmm_files import joint_notes
        from helmflow.recipes.two_states.openmm_maps import choose_map
        from helmflow.recipes.two_states.targeted import targeted_fep

        a, b = _read(
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

        settings = {"map": map_.value, "seed": seed, "temperature": temperature}
        settings |= {} if pressure is None else {"pressure": pressure}
        files = [system_a, system_b, traj_a, traj_b, topology]
        result = keep(out, files, settings, compute, joint_notes([a, b]))
        typer.echo(result.to_json() if as_json else summary(result, out))
    raise typer.Exit(1 if result.grade == "F" else 0)


def merge(
    shards: Annotated[Path, typer.Argument(help="Folder of `helmflow tfep --shard` files.")],
    out: Out = Path("runs/merged"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The free-energy difference from all shards of a calculation."""
    with mistakes_in_one_line():
        from helmflow.recipes.two_states.shard_files import load_shards
        from helmflow.recipes.two_states.shards import merge_shards

        loaded = load_shards(shards)

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            found = merge_shards(loaded, seed=seed, name=out.name)
            return found.result, found.arrays()

        result = keep(out, sorted(shards.glob("shard-*.npz")), {"seed": seed}, compute, [])
        typer.echo(result.to_json() if as_json else summary(result, out))
    raise typer.Exit(1 if result.grade == "F" else 0)


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
    with mistakes_in_one_line(), _workers(threads) as executor:
        from helmflow.recipes.two_states.multistate import multistate
        from helmflow.recipes.two_states.openmm_files import joint_notes

        found = _read(
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

        settings = {"seed": seed, "temperature": temperature}
        settings |= {} if pressure is None else {"pressure": pressure}
        files = [*system, *traj, topology]
        result = keep(out, files, settings, compute, joint_notes(found))
        typer.echo(result.to_json() if as_json else summary(result, out))
    raise typer.Exit(1 if result.grade == "F" else 0)


def _shard(
    a: "Sampled", b: "Sampled", text: str, fit: "Bijector | MapFit | None", seed: int, out: Path
) -> Path:
    from helmflow.errors import InputError
    from helmflow.recipes.two_states.openmm_files import joint_notes
    from helmflow.recipes.two_states.shard_files import save_shard
    from helmflow.recipes.two_states.shards import work_shard

    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal()):
        raise InputError("shard", "i/n, for example 3/8", text)
    part = (int(first), int(last))
    states, samples = (a.state, b.state), (a.samples, b.samples)
    made = work_shard(*states, *samples, part=part, map=fit, seed=seed, notes=joint_notes([a, b]))
    return save_shard(out, made)


def _read(
    systems: Sequence[tuple[str, Path]],
    trajectories: Sequence[tuple[str, Path]],
    topology: Path,
    temperature: float,
    *,
    pressure: float | None,
    platform: str,
    executor: "Executor | None",
    start: int,
    stride: int,
) -> "list[Sampled]":
    from helmflow.recipes.two_states.openmm_files import read_states

    with _silent_libraries():
        return read_states(
            systems,
            trajectories,
            topology,
            temperature,
            pressure=pressure,
            platform=platform,
            executor=executor,
            start=start,
            stride=stride,
        )


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Readers of trajectories print to the C library's stdout, where a script expects JSON."""
    c_library = ctypes.CDLL(None)
    sys.stdout.flush()
    ours = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        c_library.fflush(None)
        os.dup2(ours, 1)
        os.close(nowhere)
        os.close(ours)


@contextmanager
def _workers(threads: int) -> "Iterator[Executor | None]":
    if threads == 1:
        yield None
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield pool
