"""Metropolis steps of U(1) links from one topological sector to the next."""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from helmflow.manifolds.links import TWO_PI, require_lattice, require_links
from helmflow.shapes import Configs, Values


def winding_step(
    x: Configs, u: Callable[[Configs], Values], generator: Generator
) -> tuple[Configs, Tensor]:
    """Links (batch, 2, L0, L1) with one unit of flux spread over the lattice, if accepted.

    Proposed is +1 or -1 with equal probability, every plaquette changed by ``+-2 pi / V``, and
    uniform shifts of both holonomies; accepted with ``min(1, exp(u(x) - u(x')))``. Returns the
    links and who accepted. Small steps never lead there: the charge of chains that move locally
    freezes, and with it whatever depends on it.
    Source: F. Fucito, S. Solomon, Phys. Lett. B 134 (1984) 230; arXiv:2106.14234.
    """
    shape = require_lattice((x.shape[-2], x.shape[-1]))
    require_links(x, shape)
    n = len(x)
    sign = torch.randint(0, 2, (n, 1, 1, 1), generator=generator).double() * 2.0 - 1.0
    twist = TWO_PI * torch.rand(2, n, generator=generator, dtype=torch.float64)
    proposed = x + sign * unit_flux(shape)
    proposed[:, 0, -1] += twist[0, :, None]
    proposed[:, 1, :, -1] += twist[1, :, None]
    change = u(x) - u(proposed)
    chance = torch.rand(n, generator=generator, dtype=torch.float64)
    # NaN compares false and is rejected
    taken = chance.log() < change
    return torch.where(taken.reshape(-1, 1, 1, 1), proposed, x), taken


def unit_flux(shape: tuple[int, int]) -> Tensor:
    """Links (2, L0, L1) whose plaquettes all are ``2 pi / V``, up to whole turns: charge one."""
    n0, n1 = shape
    flux = TWO_PI / math.prod(shape)
    x = torch.zeros(2, n0, n1, dtype=torch.float64)
    x[1] = flux * torch.arange(n0, dtype=torch.float64)[:, None]
    x[0, -1] = -flux * n0 * torch.arange(n1, dtype=torch.float64)
    return x
