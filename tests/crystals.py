"""Small crystals and slow, independent energies."""

import itertools
import math

import torch

from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.listed import ListedEnergy
from helmflow.energies.stillinger_weber import StillingerWeber

WATER = {
    "epsilon": 6.189,
    "sigma": 2.3925,
    "A": 7.049556277,
    "B": 0.6022245584,
    "a": 1.8,
    "lambda_": 23.15,
    "gamma": 1.2,
    "cos_theta0": math.cos(math.radians(109.47)),
}
ARGON = {"epsilon": 1.0, "sigma": 1.0, "cutoff": 2.7}
FCC = torch.tensor([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]], dtype=torch.float64) / 4
DIAMOND = torch.cat([FCC, FCC + 0.25])


def crystal(sites, constant, cells):
    """Positions (n, 3) and cell (3, 3) of a cubic supercell."""
    steps = torch.arange(cells, dtype=torch.float64)
    origins = torch.cartesian_prod(steps, steps, steps)
    x = constant * (origins[:, None] + sites).reshape(-1, 3)
    return x, constant * cells * torch.eye(3, dtype=torch.float64)


def water(cells, images=None):
    return StillingerWeber(*crystal(DIAMOND, 6.2, cells), **WATER, images=images)


def argon(cells, images=None):
    return LennardJones(*crystal(FCC, (4 / 1.28) ** (1 / 3), cells), **ARGON, images=images)


def slanted(kind):
    """Five atoms in a triclinic cell much smaller than the range."""
    cell = torch.tensor([[1.9, 0.0, 0.0], [0.7, 1.8, 0.0], [-0.4, 0.5, 2.1]], dtype=torch.float64)
    sites = [[0.1, 0, 0.2], [0.5, 0.5, 0], [0, 0.6, 0.5], [0.5, 0.1, 0.6], [0.8, 0.8, 0.8]]
    sites = torch.tensor(sites, dtype=torch.float64)
    if kind is StillingerWeber:
        # Another gamma than the published one, which has a branch of its own.
        parameters = {**WATER, "sigma": 1.0, "gamma": 0.9}
        return StillingerWeber(sites @ cell, cell, **parameters, images="all")
    return LennardJones(sites @ cell, cell, **ARGON, images="all")


def brute_force(energy: ListedEnergy, x: torch.Tensor) -> float:
    """Energy of one configuration (n, 3) by a sum over images and, if any, triplets."""
    cell = energy.cell.matrix
    reach = [math.ceil(energy.range / h) + 1 for h in energy.cell.heights.tolist()]
    shifts = torch.tensor(list(itertools.product(*(range(-m, m + 1) for m in reach))))
    total = 0.0
    for xi in x:
        d = (x[None] - xi + (shifts.double() @ cell)[:, None]).reshape(-1, 3)
        r = d.norm(dim=-1)
        near = (r < energy.range) & (r > 0)
        total += _atom(energy, d[near], r[near])
    return total


def _atom(energy, d, r):
    if isinstance(energy, LennardJones):
        s6 = (energy.sigma / r) ** 6
        return float((2 * energy.epsilon * (s6**2 - s6) - energy.offset / 2).sum())
    y = energy.sigma / (r - energy.a * energy.sigma)
    pair = energy.A * energy.epsilon * (energy.B * (energy.sigma / r) ** 4 - 1) * y.exp()
    g = (energy.gamma * y).exp()
    cosine = (d @ d.T) / (r[:, None] * r)
    triplet = g[:, None] * g * (cosine - energy.cos_theta0) ** 2
    three = torch.triu(triplet, diagonal=1).sum()
    return float(pair.sum() / 2 + energy.lambda_ * energy.epsilon * three)
