"""A few dozen Lennard-Jones particles around a small sphere, for fast tests."""

import numpy as np
import torch

from helmflow.energies.growing_sphere import GrowingSphere
from helmflow.families.growth.estimates import grow
from helmflow.families.growth.growth_path import GrowthPath, lattice_around
from helmflow.skeleton.quantity import Quantity

BOX, RADII, BETA = 5.0, (1.2, 1.4), 1.0 / 3.2


def path(n=24):
    return GrowthPath(GrowingSphere(n, box=BOX, radius=RADII[0]), RADII[1], BETA)


def grown(plan, run):
    """What a run finds of it."""
    return grow(path(), plan, Quantity("free_energy_difference", "of a test"), run)


def positions(batch, n=24, width=0.08, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((batch, n, 3), generator=generator, dtype=torch.float64)
    return lattice_around(n, BOX) + width * noise


def energy_by_hand(x, box, radius):
    """Every image of the sphere, nearest images of the pairs; numpy."""
    i, j = np.triu_indices(len(x), 1)
    d = x[i] - x[j]
    d -= box * np.round(d / box)
    cutoff = 0.5 * box
    r2 = (d * d).sum(1)
    s6 = r2[r2 < cutoff**2] ** -3.0
    pairs = 4.0 * (s6 * (s6 - 1.0) - cutoff**-12 + cutoff**-6)
    shifts = box * np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
    r2 = ((x[:, None] - shifts) ** 2).sum(-1).ravel()
    s6 = (radius**2 / r2[r2 < 2.0 ** (1.0 / 3.0) * radius**2]) ** 3
    return pairs.sum() + (4.0 * s6 * (s6 - 1.0) + 1.0).sum()
