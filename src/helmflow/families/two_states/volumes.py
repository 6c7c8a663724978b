"""Do volumes belong to the pressure they are said to come from? The virial betrays it."""

import numpy as np
import torch

from helmflow.energies.constant_pressure import BOX_ROWS, ConstantPressure, with_boxes
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.shapes import Configs

Array = np.ndarray
STEP = 1e-3
"""Relative change of lengths by which u is differentiated: single precision is no matter then."""

SAME_ENERGY = 1e-2
"""Difference, relative to particles, of energies of whole and of given coordinates, in kT."""


def volume_series(energy: ConstantPressure, beta: float, x: Configs, rows: Array) -> Array:
    """v . grad u and div v (n, 2, 2) of the samples ``rows`` of x, in the order of `membership`.

    The field s moves every molecule and the box outwards: x_m -> (1 + e) x_m, V -> (1 + e)^3 V, so
    that div s = 3 M + 3 for M molecules, and v is s and (V - <V>) s; the second asks whether the
    volume fluctuates as it must, and fails when it is always the same. exp(-u) is a density over
    positions and volume. <V> is that of all of x, so that parts can be computed anywhere; ``rows``
    have finite energies.
    """
    positions, boxes = x[:, :-BOX_ROWS].numpy(), x[:, -BOX_ROWS:].numpy()
    volumes = torch.linalg.det(x[:, -BOX_ROWS:]).abs().numpy()  # of any box, without a warning
    mean = float(volumes[np.isfinite(volumes)].mean())
    owner = _owners(energy.openmm)
    n_molecules = int(owner.max()) + 1
    whole = _joined(positions[rows], boxes[rows], owner)
    given = energy(x[torch.from_numpy(rows)]).numpy()
    outwards, inwards = (_scaled(energy, whole, boxes[rows], owner, s) for s in (STEP, -STEP))
    # Molecules longer than half of the box are not put together rightly, but are whole as given.
    wrong = beta * np.abs(0.5 * (outwards + inwards) - given) > SAME_ENERGY * positions.shape[1]
    if wrong.any():
        as_given = positions[rows][wrong], boxes[rows][wrong], owner
        outwards[wrong] = _scaled(energy, *as_given, STEP)
        inwards[wrong] = _scaled(energy, *as_given, -STEP)
    push = beta * (outwards - inwards) / (2.0 * STEP)
    divergence = np.full(len(rows), 3.0 * n_molecules + 3.0)
    excess = volumes[rows] - mean
    fields = [
        np.stack([push, divergence], 1),
        np.stack([excess * push, excess * divergence + 3.0 * volumes[rows]], 1),
    ]
    return np.stack(fields, 1)


def _scaled(
    energy: ConstantPressure, positions: Array, boxes: Array, owner: Array, step: float
) -> Array:
    """U + p V after molecules and boxes moved outwards by a part ``step``."""
    sizes = np.bincount(owner)
    centres = np.zeros((len(positions), len(sizes), 3))
    for axis in range(3):
        for row, values in zip(centres, positions[..., axis], strict=True):
            row[:, axis] = np.bincount(owner, values) / sizes
    moved = positions + step * centres[:, owner]
    return energy(with_boxes(moved, (1.0 + step) * boxes)).numpy()


def _joined(positions: Array, boxes: Array, owner: Array) -> Array:
    """The same configurations with the particles of a molecule next to its first."""
    leader = np.unique(owner, return_index=True)[1][owner]
    apart = positions - positions[:, leader]
    turns = np.round(apart @ np.linalg.inv(np.where(np.isfinite(boxes), boxes, np.eye(3))))
    return positions - turns @ boxes


def _owners(energy: OpenMMEnergy) -> Array:
    """The molecule of every particle, as a barostat knows them."""
    import openmm

    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(energy.system, openmm.VerletIntegrator(1e-3), platform)
    owner = np.empty(energy.n_particles, dtype=np.int64)
    for m, particles in enumerate(context.getMolecules()):
        owner[list(particles)] = m
    return owner
