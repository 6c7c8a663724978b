"""The uniform (Haar) density of link variables."""

import math
from typing import final

import torch

from helmflow.densities.base import Density, require_count
from helmflow.manifolds.links import require_lattice, require_links
from helmflow.manifolds.special_unitary import (
    haar_matrices,
    require_colours,
    require_special_unitary,
)
from helmflow.shapes import Configs, Values


@final
class HaarAngles(Density):
    """Independent uniform U(1) links (batch, 2, L0, L1) in [0, 2 pi); log density zero.

    Densities of links are with respect to Haar measure of volume one per link: add
    ``-2 L0 L1 ln(2 pi)`` for the density in d theta.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = require_lattice(shape)

    def log_prob(self, x: Configs) -> Values:
        require_links(x, self.shape)
        return x.new_zeros(len(x))

    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        require_count(n)
        x = torch.rand(n, 2, *self.shape, generator=generator, dtype=torch.float64)
        return 2.0 * math.pi * x, x.new_zeros(n)


@final
class HaarMatrices(Density):
    """Independent matrices of SU(2) or SU(3), uniform: (batch, *event, N, N); log density zero."""

    def __init__(self, event: tuple[int, ...], n_colours: int) -> None:
        super().__init__()
        self.event, self.n_colours = event, require_colours(n_colours)

    def log_prob(self, x: Configs) -> Values:
        require_special_unitary(x, self.n_colours)
        return torch.zeros(len(x), dtype=torch.float64)

    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        require_count(n)
        x = haar_matrices((n, *self.event), self.n_colours, generator)
        return x, torch.zeros(n, dtype=torch.float64)
