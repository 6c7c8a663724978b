"""Densities of positions from densities seen from one particle."""

import math
from typing import final

import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.manifolds.periodic import PeriodicCell
from helmflow.shapes import Particles, Values


@final
class RandomTranslation(Density):
    """Adds a particle at the origin and moves everything by a uniform random vector.

        log p(x_1 ... x_n) = log q(x_1 - x_n, ..., x_(n-1) - x_n) - ln V

    with q a density of n - 1 positions in the periodic cell (3, 3, rows are vectors). Positions
    x (batch, n, 3) are wrapped into the cell. Together with permutations of the n - 1 others in q
    these are all configurations of one crystal: translations V times (n - 1)! labelings.
    """

    def __init__(self, density: Density, cell: Tensor) -> None:
        super().__init__()
        self.density = density
        self.cell = PeriodicCell(cell)

    def log_prob(self, x: Particles) -> Values:
        relative = self.cell.wrap(x[:, :-1] - x[:, -1:])
        return self.density.log_prob(relative) - math.log(self.cell.volume)

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Particles, Values]:
        relative, log_q = self.density.sample_and_log_prob(n, generator)
        fractions = torch.rand(n, 1, 3, generator=generator, dtype=torch.float64)
        shift = fractions @ self.cell.matrix
        x = self.cell.wrap(torch.cat([relative + shift, shift], 1))
        return x, log_q - math.log(self.cell.volume)
