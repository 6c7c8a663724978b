"""Many Metropolis walks at once, by values of the energy alone, each with a step of its own."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from helmflow.families.density.probes import Probes
from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.base import Manifold
from helmflow.shapes import Configs, Values

ACCEPTED = 0.3
"""Share of proposals that a walk takes once its step has settled."""

RATE = 0.3
"""By which the logarithm of a step grows when a proposal is taken."""

OCTAVES = 3.0
"""Factors of a product move by up to so many octaves less than the step: their widths differ."""

EVERY = 4
"""Steps between the points that are kept."""


@dataclass(frozen=True)
class Walked:
    """Points of every walk at the target, x (n_kept, n_walks, n_coordinates), and u there."""

    x: Tensor
    value: Tensor


def n_steps(dim: int) -> tuple[int, int]:
    """Steps of a search, and steps at the target after it, in so many dimensions."""
    return 40 + 10 * min(dim, 30), 40 + 5 * min(dim, 30)


def powers(n_quenched: int, n_annealed: int, dim: int) -> tuple[Tensor, int]:
    """Powers of the target (n_steps, n_walks) of a search, and how many steps are at power one.

    The first walks start at promising points and go downhill; the others are annealed from
    nearly nothing.
    """
    search, stay = n_steps(dim)
    down = torch.full((search, n_quenched), 4.0, dtype=torch.float64)
    heated = torch.logspace(-1.5, 0.0, search, dtype=torch.float64)[:, None].expand(-1, n_annealed)
    at_target = torch.ones(stay, n_quenched + n_annealed, dtype=torch.float64)
    return torch.cat((torch.cat((down, heated), 1), at_target)), stay


def walk(
    manifold: Manifold,
    u: ReducedPotential,
    start: Probes,
    schedule: tuple[Tensor, int],
    first_step: float,
    generator: Generator,
) -> Walked:
    """Walks from ``start`` through `powers`; points at the target are kept."""
    x, value = start.x, u(start.x)
    log_step = torch.full((len(x),), math.log(first_step), dtype=torch.float64)
    sizes = torch.tensor(manifold.sizes)
    kept: list[tuple[Configs, Values]] = []
    each, stay = schedule
    for k, power in enumerate(each):
        octaves = OCTAVES * torch.rand(
            len(x), len(sizes), generator=generator, dtype=torch.float64
        ).repeat_interleave(sizes, 1)
        length = start.unit * (log_step[:, None] - math.log(2.0) * octaves).exp()
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        proposed = manifold.exp(x, manifold.tangent(x, length * noise))
        new = u(proposed)
        chance = torch.rand(len(x), generator=generator, dtype=torch.float64).log()
        # from where the density is zero every step is as good as any other
        taken = (chance < power * (value - new)) | torch.isinf(value)
        x, value = torch.where(taken[:, None], proposed, x), torch.where(taken, new, value)
        change = torch.where(taken, RATE, -RATE * ACCEPTED / (1.0 - ACCEPTED))
        log_step = (log_step + change).clamp_max(math.log(math.pi))
        if len(each) - k <= stay and k % EVERY == 0:
            kept.append((x, value))
    return Walked(torch.stack([x for x, _ in kept]), torch.stack([v for _, v in kept]))
