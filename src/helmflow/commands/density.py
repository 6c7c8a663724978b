"""``helmflow density``: the density of sampled angles and the free energies of its basins."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helmflow.commands.carry_out import carry_out
from helmflow.commands.mistakes import mistakes_in_one_line
from helmflow.errors import InputError
from helmflow.tables import nearest

ARRAYS = ("x", "log_weights")
"""Of a file of samples; another one would be a misspelt one."""

TURN, ROUNDING = 2.0 * math.pi, 1e-6

if TYPE_CHECKING:
    import numpy as np

    from helmflow.results import Result


def density(
    samples: Annotated[
        Path,
        typer.Argument(help=".npz with x (chains, n, D) in radians, and log_weights (chains, n)."),
    ],
    basin: Annotated[
        list[str],
        typer.Option(help='Two or more: "name=-160:-40,90:180", degrees of every angle.'),
    ],
    out: Annotated[Path, typer.Option(help="Directory of the run.")] = Path("runs/density"),
    seed: Annotated[int, typer.Option(help="Of every random number.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json instead.")] = False,
) -> None:
    """A flow fitted to sampled angles, and free-energy differences of basins with errors."""
    with mistakes_in_one_line():
        from helmflow.families.density.from_samples import fit_samples
        from helmflow.results import FLOW
        from helmflow.skeleton.kept import write_kept

        boxes = _boxes(basin)
        x, log_weights = _read(samples)

        def compute() -> "tuple[Result, Mapping[str, np.ndarray]]":
            fitted = fit_samples(x, boxes, log_weights=log_weights, seed=seed, name=out.name)
            write_kept(out / FLOW, fitted.kept(), {})
            return fitted.result, fitted.arrays

        settings = {"seed": seed, "basin": basin}
        carry_out(out, [samples], settings, compute, as_json=as_json)


def _boxes(basins: list[str]) -> dict[str, list[tuple[float, float]]]:
    boxes: dict[str, list[tuple[float, float]]] = {}
    for name, ranges in map(_parsed, basins):
        if name in boxes:
            raise InputError("basin", "names that differ", f"two of the name {name}")
        boxes[name] = ranges
    return boxes


def _parsed(text: str) -> tuple[str, list[tuple[float, float]]]:
    """The name and the ranges (radians) of a basin."""
    name, _, ranges = text.partition("=")
    try:
        pairs = [tuple(map(float, part.split(":"))) for part in ranges.split(",")]
    except ValueError:
        pairs = []
    if not name or not pairs or any(len(pair) != 2 for pair in pairs):
        raise InputError("basin", 'for example "alpha=-110:-30,-80:20"', repr(text))
    if not all(-360.0 <= end <= 360.0 for pair in pairs for end in pair):
        raise InputError("basin", "degrees from -360 to 360", repr(text))
    return name, [(math.radians(low), math.radians(high)) for low, high in pairs]


def _read(path: Path) -> "tuple[np.ndarray, np.ndarray | None]":
    from zipfile import BadZipFile

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError("samples", "an .npz file of plain arrays", f"{path} ({error})") from error
    for name in arrays:
        if name not in ARRAYS:
            expected = f"arrays {' and '.join(ARRAYS)} alone{nearest(name, ARRAYS)}"
            raise InputError("samples", expected, repr(name))
    if "x" not in arrays:
        raise InputError("samples", "an array x in the file", ", ".join(arrays) or "nothing")
    if any(array.dtype.kind not in "fiu" for array in arrays.values()):
        raise InputError("samples", "arrays of numbers", "another kind")
    x = arrays["x"].astype(np.float64)
    if x.size and np.abs(x).max() > TURN + ROUNDING:
        raise InputError("samples", "radians from -2 pi to 2 pi", float(np.abs(x).max()))
    # single precision may round an angle up to the period itself
    return np.mod(x, TURN), arrays.get("log_weights")
