"""Box vectors as OpenMM needs them."""

import numpy as np

from helmflow.errors import InputError

Array = np.ndarray


def has_volume(boxes: Array) -> Array:
    """Which box vectors (..., 3, 3) are those of a box: finite and not in one plane."""
    finite = np.asarray(np.isfinite(boxes).all((-2, -1)))
    safe = np.where(finite[..., None, None], boxes, 0.0)
    return finite & (np.linalg.det(safe) != 0.0)


def reduced_box(box: Array) -> Array:
    """Box vectors (..., 3, 3) of the same lattice in the form OpenMM needs.

    a along x, b in the xy plane, and each vector reduced by whole vectors before it, so that
    |b_x| <= a_x/2, |c_x| <= a_x/2, |c_y| <= b_y/2. What is no box (NaN, no volume) stays as it
    is. Raises ``InputError`` when a lattice is rotated (a not along x), as the positions would
    have to be as well.
    """
    made = np.array(box, dtype=np.float64)
    real = has_volume(made)
    box = made[real]
    a, b, c = (box[:, k] for k in range(3))
    scale = 1e-5 * np.abs(box).max((1, 2), initial=0.0)
    upper = np.abs(np.stack([a[:, 1], a[:, 2], b[:, 2]])).max(0, initial=0.0)
    diagonal = np.stack([a[:, 0], b[:, 1], c[:, 2]]).min(0, initial=np.inf)
    wrong = np.flatnonzero((diagonal <= 0.0) | (upper > scale))
    if wrong.size:
        expected = "vectors a along x, b in the xy plane, c upwards"
        raise InputError("boxes", expected, box[wrong[0]].tolist())
    c -= b * np.round(c[:, 1:2] / b[:, 1:2])
    c -= a * np.round(c[:, :1] / a[:, :1])
    b -= a * np.round(b[:, :1] / a[:, :1])
    a[:, 1:] = 0.0
    b[:, 2] = 0.0
    made[real] = box
    return made
