"""``helmflow tfep`` and ``helmflow mbar``: free-energy differences from OpenMM files."""

import ctypes
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmflow.commands.mistakes import mistakes_in_one_line

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import numpy as np

    from helmflow.bijectors.base import Bijector
    from helmflow.recipes.two_states.openmm_files import Sampled
    from helmflow.results import Check, Result
    from helmflow.training.map_fit import MapFit

Topology = Annotated[Path, typer.Option(help="PDB of the particles, in the systems' order.")]
Temperature = Annotated[float, typer.Option(help="Of both states, in kelvin.")]
Out = Annotated[Path, typer.Option(help="Directory for result.json, work.npz and report.html.")]
Seed = Annotated[int, typer.Option(help="Of every random number.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print result.json instead.")]
Platform = Annotated[str, typer.Option(help="OpenMM platform; Reference is double precision.")]
Threads = Annotated[int, typer.Option(min=1, help="Configurations evaluated at a time.")]
Start = Annotated[int, typer.Option(min=0, help="First frame used (equilibration ends).")]
Stride = Annotated[int, typer.Option(min=1, help="Every n-th frame is used.")]


class MapChoice(StrEnum):
    """Maps of ``helmflow tfep``."""

    auto = "auto"
    none = "none"
    gaussian = "gaussian"
    molecule = "molecule"
    trained = "trained"
    scaling = "scaling"


def tfep(
    system_a: Annotated[Path, typer.Option(help="OpenMM System of state A, as XML.")],
    system_b: Annotated[Path, typer.Option(help="OpenMM System of state B, as XML.")],
    traj_a: Annotated[Path, typer.Option(help="Trajectory sampled in state A.")],
    traj_b: Annotated[Path, typer.Option(help="Trajectory sampled in state B.")],
    topology: Topology,
    temperature: Temperature,
    map_: Annotated[MapChoice, typer.Option("--map", help="See docs/tutorial_tfep.md.")] = (
        MapChoice.auto
    ),
    steps: Annotated[int, typer.Option(min=1, help="Of training, with --map trained.")] = 600,
    shard: Annotated[
        str, typer.Option(help="i/n: compute only this part of the works, for `helmflow merge`.")
    ] = "",
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
        from helmflow.recipes.two_states.openmm_maps import choose_map
        from helmflow.recipes.two_states.targeted import targeted_fep

        a, b = _read(
            [("system-a", system_a), ("system-b", system_b)],
            [("traj-a", traj_a), ("traj-b", traj_b)],
            topology,
            temperature,
            platform=platform,
            executor=executor,
            start=start,
            stride=stride,
        )

        chosen = choose_map(map_.value, a, b, steps)
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
        files = [system_a, system_b, traj_a, traj_b, topology]
        result = _keep(out, files, settings, compute, [*a.notes, *b.notes])
        typer.echo(result.to_json() if as_json else _summary(result, out))
    raise typer.Exit(1 if result.grade == "F" else 0)


def merge(
    shards: Annotated[Path, typer.Argument(help="Folder of `helmflow tfep --shard` files.")],
    out: Out = Path("runs/merged"),
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """The free-energy difference from all shards of a calculation."""
    with mistakes_in_one_line():
        from helmflow.recipes.two_states.shards import load_shards, merge_shards

        loaded = load_shards(shards)

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            found = merge_shards(loaded, seed=seed, name=out.name)
            return found.result, found.arrays()

        result = _keep(out, sorted(shards.glob("shard-*.npz")), {"seed": seed}, compute, [])
        typer.echo(result.to_json() if as_json else _summary(result, out))
    raise typer.Exit(1 if result.grade == "F" else 0)


def mbar(
    system: Annotated[list[Path], typer.Option(help="OpenMM System as XML; once per state.")],
    traj: Annotated[list[Path], typer.Option(help="Its trajectory; once per state.")],
    topology: Topology,
    temperature: Temperature,
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

        found = _read(
            [(f"system {k}", path) for k, path in enumerate(system)],
            [(f"traj {k}", path) for k, path in enumerate(traj)],
            topology,
            temperature,
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
        notes = [note for s in found for note in s.notes]
        result = _keep(out, [*system, *traj, topology], settings, compute, notes)
        typer.echo(result.to_json() if as_json else _summary(result, out))
    raise typer.Exit(1 if result.grade == "F" else 0)


def _shard(
    a: "Sampled", b: "Sampled", text: str, fit: "Bijector | MapFit | None", seed: int, out: Path
) -> Path:
    from helmflow.errors import InputError
    from helmflow.recipes.two_states.shards import save_shard, work_shard

    first, _, last = text.partition("/")
    if not (first.isdecimal() and last.isdecimal()):
        raise InputError("shard", "i/n, for example 3/8", text)
    part = (int(first), int(last))
    states, samples = (a.state, b.state), (a.samples, b.samples)
    return save_shard(out, work_shard(*states, *samples, part=part, map=fit, seed=seed))


def _read(
    systems: Sequence[tuple[str, Path]],
    trajectories: Sequence[tuple[str, Path]],
    topology: Path,
    temperature: float,
    *,
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


def _keep(
    out: Path,
    files: Sequence[Path],
    settings: Mapping[str, object],
    compute: "Callable[[], tuple[Result, Mapping[str, np.ndarray]]]",
    notes: "Sequence[Check]",
) -> "Result":
    """Compute and write the directory; one that exists already is refused before the work."""
    from helmflow.errors import EnergyError, InputError
    from helmflow.report.page import write_page
    from helmflow.results import RunDirectory, grade

    digest = hashlib.sha256(b"".join(_digest(path) for path in files)).hexdigest()
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    command = shlex.join(["helmflow", *sys.argv[1:]])
    directory = RunDirectory.create(out, text, digest, system=command)
    try:
        result, arrays = compute()
    except (InputError, EnergyError):
        directory.discard()
        raise
    checks = [*result.checks, *notes]
    letter, reason = grade(checks, one_sided=False)
    result = replace(result, checks=tuple(checks), grade=letter, reason=reason)
    directory.write_work(arrays)
    directory.write_result(result)
    write_page(directory)
    return result


def _digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _summary(result: "Result", out: Path) -> str:
    from helmflow.estimators.estimate import format_uncertainty

    width = max(len(row.method) for row in result.estimates)
    rows = [
        f"{row.method:<{width}}  {format_uncertainty(row.value, row.stderr)} kT"
        for row in result.estimates
    ]
    return "\n".join([*rows, result.reason, f"report: {out / 'report.html'}", str(result)])
