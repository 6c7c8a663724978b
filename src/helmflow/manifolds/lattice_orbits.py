"""Kernels on periodic square lattices: one weight per class of equivalent displacements."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.normal_equations import least_squares


@final
class KernelOrbits:
    """Displacements (a, b) of the infinite square lattice up to reflections and rotations.

    An orbit holds all (+-a, +-b), and (+-b, +-a) as well if ``isotropic``, with a, b <= reach. A
    kernel has one weight c_o per orbit; on a periodic lattice it is the sum over images,

        W(d) = sum_o counts[d, o] c_o,

    so the same weights make a kernel on a lattice of any extent: zero beyond the reach on a larger
    one, wrapped on a smaller one. ``parity`` (0 or 1) keeps displacements with a + b of that
    parity only: those within or between the two colours of a checkerboard.
    """

    def __init__(self, reach: int, *, isotropic: bool = True, parity: int | None = None) -> None:
        if reach < 1:
            raise InputError("reach", "at least 1 lattice spacing", reach)
        self.reach, self.isotropic, self.parity = reach, isotropic, parity
        self.labels = tuple(
            (a, b)
            for a in range(reach + 1)
            for b in range((a if isotropic else reach) + 1)
            if parity is None or (a + b) % 2 == parity
        )
        self._index = {label: k for k, label in enumerate(self.labels)}

    def __len__(self) -> int:
        return len(self.labels)

    def counts(self, shape: tuple[int, int]) -> Tensor:
        """Images of every displacement in every orbit: (L1 L2, orbits), float64."""
        table = np.zeros((*shape, len(self)))
        around = range(-self.reach, self.reach + 1)
        for i in around:
            for j in around:
                a, b = abs(i), abs(j)
                label = (max(a, b), min(a, b)) if self.isotropic else (a, b)
                if label in self._index:
                    table[i % shape[0], j % shape[1], self._index[label]] += 1.0
        return torch.from_numpy(table.reshape(-1, len(self)))

    def adjacency(self, shape: tuple[int, int]) -> Tensor:
        """The same as matrices between sites x, y, counts of x - y: (orbits, V, V), symmetric."""
        i, j = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
        difference = ((i[:, None] - i) % shape[0]) * shape[1] + (j[:, None] - j) % shape[1]
        return self.counts(shape)[torch.from_numpy(difference)].permute(2, 0, 1).contiguous()

    def fit(self, kernel: Tensor) -> Tensor:
        """Weights (orbits,) of the kernel closest to W(d) given on a lattice (L1, L2).

        Least squares; exact if the reach is at least half the extent and W has the symmetry.
        """
        counts = self.counts((kernel.shape[0], kernel.shape[1]))
        solution = least_squares(counts.numpy(), kernel.detach().reshape(-1).numpy())
        return torch.from_numpy(solution.coefficients)
