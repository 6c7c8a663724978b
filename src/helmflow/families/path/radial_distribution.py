"""Radial distribution function of a crystal from displacements."""

import numpy as np
import torch
from torch import Tensor

from helmflow.errors import InputError

Array = np.ndarray


class RadialDistribution:
    """g(r) over a fixed list of pairs, periodic images included.

    g(r) = (2 n_pairs(r) / N) / (4 pi r^2 dr N / V)
    """

    def __init__(self, positions: Array, cell: Array, bond: float, n_bins: int = 120) -> None:
        import vesin

        self._n = len(positions)
        self._edges = np.linspace(0.6 * bond, 2.6 * bond, n_bins + 1)
        margin = 0.5 * bond  # pairs this far outside may come in by thermal motion
        self._first, self._second, self._bond = vesin.NeighborList(
            cutoff=self._edges[-1] + margin, full_list=False
        ).compute(points=positions, box=cell, periodic=True, quantities="ijD")
        if len(self._first) == 0:
            raise InputError("structure.file", "particles with neighbours", "none in reach")
        self._first, self._second = self._first.astype(int), self._second.astype(int)
        self.r = 0.5 * (self._edges[1:] + self._edges[:-1])
        density = len(positions) / abs(np.linalg.det(cell))
        shell = 4.0 * np.pi / 3.0 * np.diff(self._edges**3)
        self._ideal = 0.5 * len(positions) * density * shell

    def count(self, u: Tensor) -> Tensor:
        """Pairs per bin in every configuration u (batch, 3N): (batch, bins)."""
        sites = u.view(len(u), self._n, 3).numpy()
        width = self._edges[1] - self._edges[0]
        n_bins = len(self.r)
        counts = np.empty((len(sites), n_bins))
        for row, site in enumerate(sites):
            bond = self._bond + site[self._second] - site[self._first]
            r = np.sqrt(np.einsum("pc,pc->p", bond, bond))
            r = r[(r >= self._edges[0]) & (r < self._edges[-1])]
            index = np.minimum(((r - self._edges[0]) / width).astype(int), n_bins - 1)
            counts[row] = np.bincount(index, minlength=n_bins)
        return torch.from_numpy(counts)

    def normalise(self, counts: Tensor) -> tuple[Array, Array]:
        """g(r) and its standard error from mean counts of independent chains (chains, bins)."""
        g = counts.numpy() / self._ideal
        spread = g.std(0, ddof=1) if len(g) > 1 else np.full(g.shape[1], np.nan)
        return g.mean(0), spread / np.sqrt(len(g))
