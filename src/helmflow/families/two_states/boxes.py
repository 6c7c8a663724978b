"""What the boxes of sampled states allow: configurations are compared on one torus."""

from collections.abc import Sequence

import numpy as np
import torch

from helmflow.bijectors.base import Bijector
from helmflow.energies.constant_pressure import BOX_ROWS, ConstantPressure
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.errors import InputError
from helmflow.families.two_states.endpoints import State
from helmflow.results import Check
from helmflow.shapes import Particles
from helmflow.training.map_fit import MapFit

Array = np.ndarray
SAME_BOX = 1e-6
"""Difference of box vectors, relative to the longest, that counts as none."""

SAME_TURN = 1e-5
"""Distance of an image from a whole box vector, in box vectors, that counts as none."""

LOOKED_AT = 4


def share_a_box(*states: State) -> bool:
    """Whether no two OpenMM states of constant volume have different boxes.

    Positions in one box are then positions in the other, each once. Raises ``InputError`` where
    some states are periodic and others are not.
    """
    energies = [e for e in map(_fixed_box, states) if e is not None]
    if len({e.is_periodic for e in energies}) > 1:
        raise InputError("states", "all of them periodic, or none", "some with a box")
    return all(same_box(energies[0].box, e.box) for e in energies[1:] if e.is_periodic)


def same_box(a: Array, b: Array, tolerance: float = SAME_BOX) -> bool:
    """Whether box vectors (3, 3), one per row, agree up to a part of the longest."""
    return bool(np.abs(b - a).max() <= tolerance * np.abs(a).max())


def no_shared_box() -> Check:
    """What is wrong with works from one box to another without a map."""
    text = "their boxes differ, and without a map no sample of one is a sample of the other"
    return Check("states share a box", 1.0, 0.0, False, "hard", text)


def check_joined(bijectors: Sequence[Bijector], x: Particles, a: State, b: State) -> None:
    """Refuses maps that do not carry the box of A onto that of B.

    A configuration moved as a whole by a vector of A's box is the same configuration, and its
    image must be the same in B's: moved by vectors of B's box. Raises ``InputError`` otherwise.
    """
    ends = [_fixed_box(a), _fixed_box(b)]
    first, last = (e.box if e is not None else np.eye(3) for e in ends)
    x = x[:LOOKED_AT]
    for bijector in bijectors:
        with torch.no_grad():
            home, _ = bijector.forward(x)
            for vector in first:
                away, _ = bijector.forward(x + torch.from_numpy(vector))
                turns = (away - home).numpy() @ np.linalg.inv(last)
                if not np.abs(turns - np.round(turns)).max() < SAME_TURN:
                    expected = "one that carries the box of A onto that of B (VolumeScaling)"
                    raise InputError("map", expected, type(bijector).__name__)


def check_keeps_boxes(given: Bijector | MapFit | None, x: Particles, a: State) -> None:
    """Refuses maps that touch the box of configurations at constant pressure.

    The box has one degree of freedom in nine numbers, so that a log-det over all of them means
    nothing, and no fit knows which rows are a box. A finished map may move positions, periodic in
    each configuration's own box, and must leave that box. Raises ``InputError`` otherwise.
    """
    if given is None or not isinstance(getattr(a, "energy", None), ConstantPressure):
        return
    if not (isinstance(given, Bijector) and _leaves_boxes(given, x[:LOOKED_AT])):
        expected = "none at constant pressure, or a finished one that leaves the box rows"
        raise InputError("map", expected, type(given).__name__)


def _leaves_boxes(bijector: Bijector, x: Particles) -> bool:
    """Whether a map moves positions alone, and these as a periodic function of every vector."""
    boxes = x[:, -BOX_ROWS:]
    with torch.no_grad():
        home, _ = bijector.forward(x)
        same = torch.allclose(home[:, -BOX_ROWS:], boxes, rtol=SAME_BOX, atol=SAME_BOX)
        for k in range(BOX_ROWS):
            moved = torch.cat([x[:, :-BOX_ROWS] + boxes[:, k : k + 1], boxes], 1)
            turns = (bijector.forward(moved)[0] - home) @ torch.linalg.pinv(boxes)
            same &= bool((turns - turns.round()).abs().max() < SAME_TURN)
    return same


def barostat_checks(*states: State) -> list[Check]:
    """One soft check if a System of constant volume still has a barostat."""
    energies = [e for e in map(_fixed_box, states) if e is not None]
    names = sorted({name for e in energies for name in e.ignored if "Barostat" in name})
    if not names:
        return []
    text = f"{', '.join(names)} left out; samples must be of constant volume"
    return [Check("states without barostat", 1.0, 0.0, False, "soft", text)]


def _fixed_box(state: State) -> OpenMMEnergy | None:
    """The energy of an OpenMM state of constant volume."""
    energy = getattr(state, "energy", None)
    return energy if isinstance(energy, OpenMMEnergy) else None
