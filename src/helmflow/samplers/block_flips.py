"""Metropolis steps of a lattice field that reverse the sign of a block of sites."""

import torch
from torch import Generator, Tensor


def random_blocks(n: int, shape: tuple[int, int], generator: Generator) -> Tensor:
    """Masks (n, V) of rectangles anywhere on a periodic lattice.

    Their extent is random in each direction or, every other time, the whole: a band ends at two
    domain walls, the cheapest that a torus allows. Reversing the sign of a block is its own
    inverse and keeps volumes, so any Metropolis chain may propose it; small steps would have to
    carry all of its sites over their barriers.
    """
    inside = torch.ones(n, 1, dtype=torch.bool)
    for extent in shape:
        start = torch.randint(extent, (n, 1), generator=generator)
        length = torch.randint(1, extent + 1, (n, 1), generator=generator)
        around = torch.rand(n, 1, generator=generator, dtype=torch.float64) < 0.5
        covered = ((torch.arange(extent) - start) % extent < length) | around
        inside = (inside[:, :, None] & covered[:, None, :]).view(n, -1)
    return inside
