"""Trajectories from files, checked against the system they shall belong to."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from zipfile import BadZipFile

import numpy as np

from helmflow.errors import InputError

if TYPE_CHECKING:
    from mdtraj import Topology

Array = np.ndarray
ROUNDED = {".xtc": "1e-3 nm", ".pdb": "1e-4 nm", ".gro": "1e-3 nm", ".cif": "1e-4 nm"}
"""Formats that round coordinates, which biases the energies computed from them."""

UNREADABLE = (OSError, ValueError, RuntimeError, TypeError, LookupError, BadZipFile, EOFError)
"""What readers of damaged files raise."""

CONSTANT = 1e-4
"""Changes of box vectors (nm) below which a box is constant, as far as files can say."""


@dataclass(frozen=True)
class Trajectory:
    """Positions (n, n_particles, 3) and the box (3, 3) they share, in nm; None without a box.

    If asked for, one box per frame (n, 3, 3). ``rounded`` says how coarsely the file stored
    coordinates, None if to single precision. ``n_missing`` frames are announced by the head of
    the file and are not there: it was cut off.
    """

    positions: Array
    box: Array | None
    rounded: str | None
    n_missing: int = 0


def read_topology(path: Path) -> "Topology":
    """The particles in a PDB (or any other structure) file; ``InputError`` when unreadable."""
    import mdtraj

    try:
        return mdtraj.load_topology(str(path))
    except UNREADABLE as error:
        raise InputError("topology", "a readable structure file", _what(path, error)) from error


def read_trajectory(
    path: Path,
    topology: "Topology",
    field: str,
    *,
    start: int = 0,
    stride: int = 1,
    one_box: bool = True,
) -> Trajectory:
    """Frames ``start``, ``start + stride``, ... of any format mdtraj reads, or of an ``.npz``.

    An ``.npz`` holds ``positions`` (n, n_particles, 3) and, if periodic, ``boxes`` (n, 3, 3) or
    (3, 3), in nm, unrounded. Raises ``InputError(field, ...)`` for a file that is damaged, of
    another number of particles, or, unless ``one_box`` is False, of a box that varies.
    """
    positions, boxes = _arrays(path, topology, field)
    if positions.ndim != 3 or positions.shape[1:] != (topology.n_atoms, 3):
        n = positions.shape[1] if positions.ndim > 1 else 0
        raise InputError(field, f"{topology.n_atoms} particles, as in the topology", n)
    if boxes is not None and np.shape(boxes) not in ((3, 3), (len(positions), 3, 3)):
        expected = f"one box per frame, ({len(positions)}, 3, 3), or a single one"
        raise InputError(field, expected, np.shape(boxes))
    n_missing = max(_announced(path) - len(positions), 0)
    chosen = slice(start, None, stride)
    positions = positions[chosen].astype(np.float64)
    if len(positions) < 4:
        raise InputError(field, "at least 4 frames", len(positions))
    box = None if boxes is None else np.asarray(boxes, dtype=np.float64)
    if box is not None and box.ndim == 3:
        box = box[chosen]
    if box is not None:
        box = _constant(box, field) if one_box else np.broadcast_to(box, (len(positions), 3, 3))
    return Trajectory(positions, box, ROUNDED.get(path.suffix.lower()), n_missing)


def _announced(path: Path) -> int:
    """Frames that the head of a DCD file tells of; 0 for other formats, or if it does not say."""
    if path.suffix.lower() != ".dcd":
        return 0
    with open(path, "rb") as file:
        head = file.read(12)
    order: Literal["little", "big"] = "little" if head[:1] == b"T" else "big"  # its size, 84
    return int.from_bytes(head[8:], order, signed=True)


def _arrays(path: Path, topology: "Topology", field: str) -> tuple[Array, Array | None]:
    import mdtraj

    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return archive["positions"], archive["boxes"] if "boxes" in archive else None
        if path.suffix in (".h5", ".hdf5"):
            loaded = mdtraj.load(str(path))
        else:
            loaded = mdtraj.load(str(path), top=topology)
    except UNREADABLE as error:
        if "atoms" in str(error):
            expected = f"{topology.n_atoms} particles, as in the topology"
            raise InputError(field, expected, _what(path, error)) from error
        raise InputError(field, "a readable trajectory", _what(path, error)) from error
    return loaded.xyz, loaded.unitcell_vectors


def _constant(boxes: Array, field: str) -> Array:
    if boxes.ndim == 2:
        return boxes
    spread = float(np.ptp(boxes, axis=0).max())
    if spread > CONSTANT:
        raise InputError(
            field,
            "a constant box (a barostat was at work: name its pressure, or continue at the mean "
            "volume without it)",
            f"box vectors that vary by {spread:.2g} nm",
        )
    return boxes.mean(0)


def check_order(topology: "Topology", masses: Array, field: str) -> None:
    """Raise ``InputError`` unless the System's particles can be those of the topology, in order.

    Numbers must agree, massless particles must be where the topology has no element, and elements
    must be in the order of the masses (unless masses were moved to hydrogen).
    """
    if topology.n_atoms != len(masses):
        expected = f"{topology.n_atoms} particles, as in the topology"
        raise InputError(field, expected, f"{len(masses)}")
    elements = np.array([getattr(a.element, "mass", 0.0) or 0.0 for a in topology.atoms])
    same = np.abs(np.sort(elements) - np.sort(masses)).max() < 0.1
    wrong = np.flatnonzero(np.abs(elements - masses) > 0.1)
    if same and wrong.size:
        atom = topology.atom(int(wrong[0]))
        raise InputError(
            field,
            "particles in the order of the topology",
            f"mass {masses[wrong[0]]:.4g} where {atom} is",
        )


def _what(path: Path, error: Exception) -> str:
    if not path.is_file():
        return f"{path}, which is not there"
    lines = str(error).strip().splitlines()
    return f"{path} ({lines[0] if lines else type(error).__name__})"
