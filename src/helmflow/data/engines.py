"""Output of simulation programs, read by alchemlyb."""

import bz2
import contextlib
import gzip
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from helmflow.data.frames import from_frames
from helmflow.data.potentials import SampledPotentials
from helmflow.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = {".xvg": "gmx", ".out": "amber", ".fepout": "namd", ".dat": "gomc"}
"""Endings, before .gz or .bz2, and the parser of each program."""

PACKED = (".gz", ".bz2")

HEAD = 60
"""Lines in front of the numbers of an .xvg file, and some."""


def engine_of(path: Path) -> str | None:
    """The parser for a file of this name, or None."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return next((e for suffix, e in SUFFIXES.items() if name.endswith(suffix)), None)


def read_engine(
    engine: str, paths: Sequence[Path], temperature: float | None
) -> SampledPotentials:
    """What files of one program say; ``temperature`` (K) is not in all of them.

    Raises InputError without alchemlyb, without a temperature and for files it cannot read.
    """
    if temperature is None or not 0.0 < temperature < 1e6:
        got = "none" if temperature is None else temperature
        raise InputError("temperature", f"kelvin, to read {paths[0].name}", got)
    try:
        import pandas as pd

        parser = _parser(engine)
    except ImportError as error:
        expected = f"alchemlyb to be installed, to read {paths[0].name}"
        raise InputError("files", expected, "it is not") from error
    if engine == "gmx":
        for path in paths:
            _check_temperature(path, temperature)
    with _silent():
        both = [_both(path, parser, temperature) for path in paths]
        found = [energies for energies, _ in both]
        known = [frame for _, frame in both if frame is not None and len(frame)]
        slopes = pd.concat(known) if len(known) == len(paths) else None
        frame = pd.concat(found)
    for joined in (frame, slopes):
        if joined is not None:
            joined.attrs = found[0].attrs
    return from_frames(frame, slopes, field=str(paths[0]))


def _check_temperature(path: Path, temperature: float) -> None:
    """GROMACS writes its own into the head of a file, and alchemlyb takes whatever it is told."""
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix.lower(), open)
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace") as file:
            head = "".join(islice(file, HEAD))
    except (OSError, EOFError) as error:
        raise InputError(str(path), "a readable file", str(error)) from error
    found = re.search(r"T = ([0-9.]+) \(K\)", head)
    if found is not None and abs(float(found[1]) - temperature) > 0.01 * temperature:
        raise InputError("temperature", f"{found[1]} K, as {path.name} says", temperature)


def _parser(engine: str) -> ModuleType:
    with _silent():
        from importlib import import_module

        import alchemlyb.parsing as parsing

        return import_module(f"{parsing.__name__}.{engine}")


def _read(path: Path, read: "Callable[[], pd.DataFrame | None]") -> "pd.DataFrame":
    try:
        frame = read()
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise InputError(str(path), "a file with energies of all states", text) from error
    if frame is None or not len(frame):
        raise InputError(str(path), "a file with energies of all states", "none in it")
    return frame


def _both(
    path: Path, parser: ModuleType, temperature: float
) -> "tuple[pd.DataFrame, pd.DataFrame | None]":
    """Energies of all states and slopes; files without slopes have other estimators."""
    slopes: list[pd.DataFrame | None] = []

    def read() -> "pd.DataFrame | None":
        found = parser.extract(str(path), T=temperature)
        slopes.append(found.get("dHdl"))
        return found.get("u_nk")

    return _read(path, read), slopes[0]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what parsers and their libraries print, warn and log."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            try:
                from loguru import logger

                logger.disable("alchemlyb")
            except ImportError:
                pass
            try:
                yield
            finally:
                logging.disable(logging.NOTSET)
