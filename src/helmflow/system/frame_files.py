"""Files of frames and of topologies, as arrays; damaged ones in one line."""

import io
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np

from helmflow.errors import InputError

if TYPE_CHECKING:
    from mdtraj import Topology

Array = np.ndarray
UNREADABLE = (
    *(OSError, ValueError, RuntimeError, TypeError, LookupError),
    *(BadZipFile, EOFError, ImportError),
)
"""What readers of damaged files raise."""


HDF5 = (".h5", ".hdf5", ".lh5")
"""Read by PyTables, which unpickles what such a file says is an object."""


def read_topology(path: Path) -> "Topology":
    """The particles in a PDB (or any other structure) file; ``InputError`` when unreadable."""
    import mdtraj

    _refuse_pickles(path, "topology")
    try:
        with redirect_stderr(io.StringIO()):
            topology: Any = mdtraj.load_topology(str(path))
    except UNREADABLE as error:
        raise InputError("topology", "a readable structure file", _what(path, error)) from error
    return topology


def read_arrays(path: Path, topology: "Topology", field: str) -> tuple[Array, Array | None]:
    """Positions and boxes in nm as the file has them; ``InputError(field, ...)`` when unreadable.

    Formats are those of mdtraj, and those of `READERS`.
    """
    if not path.exists():
        raise InputError(field, "a readable trajectory", _what(path, None))
    _refuse_pickles(path, field)
    try:
        read = READERS.get(path.suffix, partial(_loaded, topology=topology))
        positions, boxes = read(path)
    except UNREADABLE as error:
        if "atoms" in str(error):
            expected = f"{topology.n_atoms} particles, as in the topology"
            raise InputError(field, expected, _what(path, error)) from error
        raise InputError(field, "a readable trajectory", _what(path, error)) from error
    for array in (positions, boxes):
        if array is not None and array.dtype.kind not in "fiu":
            raise InputError(field, "real numbers", f"{path}, of type {array.dtype}")
    return positions, boxes


def _refuse_pickles(path: Path, field: str) -> None:
    if path.suffix in HDF5:
        expected = "a format that cannot hold pickled objects, such as .pdb or .dcd (mdconvert)"
        raise InputError(field, expected, f"{path}")


def _npz(path: Path) -> tuple[Array, Array | None]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        return archive["positions"], archive["boxes"] if "boxes" in archive else None


READERS: Mapping[str, Callable[[Path], tuple[Array, Array | None]]] = {".npz": _npz}
"""By suffix, for what mdtraj does not read: positions (n, n_particles, 3) and boxes in nm."""


def _loaded(path: Path, topology: "Topology") -> tuple[Array, Array | None]:
    import mdtraj
    from mdtraj.formats.registry import FormatRegistry

    if "".join(path.suffixes[-1 - (path.suffix == ".gz") :]) not in FormatRegistry.loaders:
        others = ", ".join(READERS)
        raise ValueError(f"neither {others} nor a format of mdtraj such as .dcd, .nc or .xtc")
    # readers explain at length what packages they would like to have
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = mdtraj.load(str(path), top=topology)
    return loaded.xyz, loaded.unitcell_vectors


def announced(path: Path) -> int:
    """Frames that the head of a DCD file tells of; 0 for other formats, or if it does not say."""
    if path.suffix.lower() != ".dcd":
        return 0
    with open(path, "rb") as file:
        head = file.read(12)
    order: Literal["little", "big"] = "little" if head[:1] == b"T" else "big"  # its size, 84
    return int.from_bytes(head[8:], order, signed=True)


def _what(path: Path, error: Exception | None) -> str:
    if not path.exists():
        return f"{path}, which is not there"
    if isinstance(error, ImportError):
        needed = error.__context__ if isinstance(error.__context__, ImportError) else error
        return f"{path}, for which the package {needed.name or '?'} is missing"
    lines = str(error).strip().splitlines()
    return f"{path} ({lines[0] if lines else type(error).__name__})"
