"""What commands on OpenMM files have in common: their options, quiet readers, threads."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from helmflow.families.two_states.openmm_files import Reading

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
Start = Annotated[str, typer.Option(help="First frame used, or auto: where works have settled.")]
Stride = Annotated[int, typer.Option(min=1, help="Every n-th frame is used.")]


def inputs(
    temperature: float, pressure: float | None, seed: int, threads: int, reading: "Reading"
) -> dict[str, object]:
    """The common options that shape a number, for ``settings.toml``."""
    options = {
        "temperature": temperature,
        "pressure": pressure,
        "seed": seed,
        "platform": reading.platform,
        "threads": threads,
        "start": "auto" if reading.equilibrate else reading.start,
        "stride": reading.stride,
    }
    return {name: value for name, value in options.items() if value is not None}


def reading_of(start: str, stride: int, platform: str, executor: "Executor | None") -> "Reading":
    """What these options say; raises InputError for a start that is neither a frame nor auto."""
    from helmflow.errors import InputError
    from helmflow.families.two_states.openmm_files import Reading

    if start == "auto":
        return Reading(0, stride, platform, executor, equilibrate=True)
    if not start.isdecimal():
        raise InputError("start", "a number of frames, or auto", start)
    return Reading(int(start), stride, platform, executor)


@contextmanager
def silent_libraries() -> Iterator[None]:
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
def workers(threads: int) -> "Iterator[Executor | None]":
    """A pool of threads; none for one, which then works itself."""
    if threads == 1:
        yield None
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        yield pool
