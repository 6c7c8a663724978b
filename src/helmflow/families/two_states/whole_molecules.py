"""Molecules put together across the faces of a periodic box."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from helmflow.energies.openmm_boxes import has_volume

if TYPE_CHECKING:
    import openmm

Array = np.ndarray
Links = Sequence[tuple[int, int]]
"""Pairs of particles of one molecule that are close."""


def links_of(system: "openmm.System", bonds: Links) -> list[tuple[int, int]]:
    """The bonds, and every virtual site with the first particle that it follows."""
    sites = [i for i in range(system.getNumParticles()) if system.isVirtualSite(i)]
    return [*bonds, *((i, system.getVirtualSite(i).getParticle(0)) for i in sites)]


def joined(positions: Array, boxes: Array, links: Links) -> Array:
    """Positions (n, particles, 3) with every particle beside those that it is linked to.

    Each is moved by whole vectors of ``boxes``, (3, 3) or one per frame (n, 3, 3), so that it is
    the nearest image to its neighbour on the way along the links: molecules may be longer than
    half a box. Frames without a box stay as they are.
    """
    x = np.array(positions)
    boxes = np.broadcast_to(boxes, (len(x), 3, 3))
    real = has_volume(boxes)
    box = np.where(real[:, None, None], boxes, np.eye(3))
    to_turns = np.linalg.inv(box) * real[:, None, None]
    with np.errstate(invalid="ignore"):  # coordinates that are not finite stay so
        for parents, children in _layers(x.shape[1], links):
            turns = np.round((x[:, children] - x[:, parents]) @ to_turns)
            x[:, children] -= turns @ box
    return x


def _layers(n: int, links: Links) -> list[tuple[list[int], list[int]]]:
    """Parents and children in spanning trees of all molecules, by the distance from the roots."""
    near: list[list[int]] = [[] for _ in range(n)]
    for i, j in links:
        near[i].append(j)
        near[j].append(i)
    seen, layers = [False] * n, []
    for root in range(n):
        front, depth = [] if seen[root] else [root], 0
        seen[root] = True
        while front:
            pairs = []
            for parent in front:
                for child in near[parent]:
                    if not seen[child]:
                        seen[child] = True
                        pairs.append((parent, child))
            front, depth = [child for _, child in pairs], depth + 1
            if pairs and len(layers) < depth:
                layers.append(([], []))
            for parent, child in pairs:
                layers[depth - 1][0].append(parent)
                layers[depth - 1][1].append(child)
    return layers
