"""The run directory and the last lines of commands that compute in one go."""

import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Never

import typer

if TYPE_CHECKING:
    import numpy as np

    from helmflow.results import Result


def carry_out(
    out: Path,
    files: Sequence[Path],
    settings: Mapping[str, object],
    compute: "Callable[[], tuple[Result, Mapping[str, np.ndarray]]]",
    *,
    as_json: bool,
    unit: str = "kT",
) -> Never:
    """Compute, write the directory, print, and exit: with 1 for grade F.

    ``unit``: of the last line, one that the result knows.

    A directory that holds something already is refused before the work, and nothing is left of one
    whose work failed or was interrupted.
    """
    from helmflow.report.page import write_page
    from helmflow.results import in_one_go

    digest = hashlib.sha256(b"".join(_digest(path) for path in files)).hexdigest()
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    command = shlex.join(["helmflow", *sys.argv[1:]])
    with in_one_go(out, text, digest, system=command) as directory:
        result, arrays = compute()
        directory.write_work(arrays)
        directory.write_result(result)
        write_page(directory)
    typer.echo(result.to_json() if as_json else _summary(result, out, unit))
    raise typer.Exit(1 if result.grade == "F" else 0)


def _digest(path: Path) -> bytes:
    if path.is_dir():  # some formats of trajectories are folders
        parts = sorted(part for part in path.rglob("*") if part.is_file())
        return hashlib.sha256(b"".join(_digest(part) for part in parts)).digest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _summary(result: "Result", out: Path, unit: str) -> str:
    """What a person reads after a run; the number is the last line."""
    from helmflow.estimators.estimate import format_uncertainty

    width = max(len(row.method) for row in result.estimates)
    rows = [
        f"{row.method:<{width}}  {format_uncertainty(row.value, row.stderr)} kT"
        for row in result.estimates
    ]
    rows += [f"{o.name}: {format_uncertainty(o.value, o.stderr)}" for o in result.observables]
    end = [result.reason, f"report: {out / 'report.html'}", _last_line(result, unit)]
    return "\n".join([*rows, *end])


def _last_line(result: "Result", unit: str) -> str:
    from helmflow.estimators.estimate import format_uncertainty

    for other in result.other_units:
        if other.unit == unit:
            number = f"{format_uncertainty(other.value, other.stderr)} {unit}"
            return f"{result.symbol} = {number}  ({result.method}; grade {result.verdict})"
    return str(result)
