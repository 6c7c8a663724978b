"""Configurations on disk, in full precision."""

from collections.abc import Mapping
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from torch import Tensor

from helmflow.errors import InputError
from helmflow.system import System
from helmflow.training.atomic import write_atomically


def write_extxyz(path: Path, x: Tensor, log_weights: Tensor | None, system: System) -> None:
    """Extended XYZ of positions (n, N, 3) in the system's length unit, 17 digits."""
    cell = " ".join(repr(float(v)) for v in system.sites_and_cell[1].flatten())
    text = StringIO()
    for k, frame in enumerate(x.tolist()):
        weight = "" if log_weights is None else f" log_weights={log_weights[k].item()!r}"
        text.write(f"{len(frame)}\n")
        text.write(f'Lattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T"{weight}\n')
        for name, (a, b, c) in zip(system.species, frame, strict=True):
            text.write(f"{name} {a!r} {b!r} {c!r}\n")
    _write(path, text.getvalue().encode())


def write_npz(path: Path, x: Tensor, log_weights: Tensor | None, system: System) -> None:
    """Plain arrays: ``x``, and where they apply ``cell``, ``species`` and ``log_weights``."""
    arrays = {"x": x.numpy()}
    if system.cell is not None:
        arrays |= {"cell": system.cell.numpy(), "species": np.array(system.species)}
    if log_weights is not None:
        arrays["log_weights"] = log_weights.numpy()
    write_arrays(path, arrays)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An .npz file of plain arrays, whole or not at all."""
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    _write(path, buffer.getvalue())


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise InputError("out", "a file that can be written", error) from error
