"""Trajectories from files, checked against the system they are said to belong to."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from helmflow.energies.openmm_boxes import has_volume
from helmflow.errors import InputError
from helmflow.system.frame_files import announced, read_arrays

if TYPE_CHECKING:
    from mdtraj import Topology

Array = np.ndarray
STEPS = (1e-2, 1e-3, 1e-4)
"""Roundings of coordinates (nm) that bias the energies computed from them."""

ON_A_STEP, LOOKED_AT = 0.1, 64
"""Distance from a whole step, in steps, that single precision may make; frames looked at."""

CONSTANT = 1e-4
"""Changes of box vectors (nm) below which a box is constant, as far as files can say."""


@dataclass(frozen=True)
class Trajectory:
    """Positions (n, n_particles, 3) and the box (3, 3) they share, in nm; None without a box.

    If asked for, one box per frame (n, 3, 3). ``rounded`` says how coarsely coordinates were
    stored, None if finer than 1e-4 nm. ``n_missing`` frames are announced by the head of the file
    and are not there: it was cut off.
    """

    positions: Array
    box: Array | None
    rounded: str | None
    n_missing: int = 0


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
    (3, 3), in nm, unrounded. Where all frames share one box, a frame with another that is none
    (NaN, no volume) has NaN positions. Raises ``InputError(field, ...)`` for a file that is
    damaged, of another number of particles, or, unless ``one_box`` is False, of a box that varies.
    """
    positions, boxes = read_arrays(path, topology, field)
    if positions.ndim != 3 or positions.shape[1:] != (topology.n_atoms, 3):
        n = positions.shape[1] if positions.ndim > 1 else 0
        raise InputError(field, f"{topology.n_atoms} particles, as in the topology", n)
    if boxes is not None and np.shape(boxes) not in ((3, 3), (len(positions), 3, 3)):
        expected = f"one box per frame, ({len(positions)}, 3, 3), or a single one"
        raise InputError(field, expected, np.shape(boxes))
    n_missing = max(announced(path) - len(positions), 0)
    wanted_frames = slice(start, None, stride)
    positions = positions[wanted_frames].astype(np.float64)
    if len(positions) < 4:
        raise InputError(field, "at least 4 frames", len(positions))
    rounded = _rounded(positions)
    box = None if boxes is None else np.asarray(boxes, dtype=np.float64)
    if box is not None and box.ndim == 3:
        box = box[wanted_frames]
    if box is not None and one_box:
        positions, box = _in_one_box(positions, box, field)
    elif box is not None:
        box = np.broadcast_to(box, (len(positions), 3, 3))
    return Trajectory(positions, box, rounded, n_missing)


def _rounded(positions: Array) -> str | None:
    """The coarsest step that all coordinates are whole multiples of, whatever the format."""
    x = positions[:: max(len(positions) // LOOKED_AT, 1)]
    x = x[np.isfinite(x)]
    for step in STEPS:
        off = x / step - np.round(x / step)
        if np.abs(off).max(initial=0.0) < ON_A_STEP and x.any():
            return f"{step:.0e} nm".replace("e-0", "e-")
    return None


def _in_one_box(positions: Array, boxes: Array, field: str) -> tuple[Array, Array]:
    """Positions, NaN where a frame has no box, and the box of all others."""
    real = has_volume(boxes)
    if not real.any():
        raise InputError(field, "a box with a volume", boxes.reshape(-1, 3, 3)[0].tolist())
    if boxes.ndim == 2:
        return positions, boxes
    boxes = boxes[real]
    spread = float(np.ptp(boxes, axis=0).max())
    if spread > CONSTANT:
        raise InputError(
            field,
            "a constant box (a barostat was at work: name its pressure, or continue at the mean "
            "volume without it)",
            f"box vectors that vary by {spread:.2g} nm",
        )
    return np.where(real[:, None, None], positions, np.nan), boxes.mean(0)


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
