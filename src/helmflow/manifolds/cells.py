"""Real Fourier modes of a periodic arrangement of equal cells."""

import math

import numpy as np
import torch
from torch import Tensor

from helmflow.errors import InputError

Blocks = tuple[Tensor, Tensor]
"""One matrix per wave vector: (n_self, m, m) for k = -k and (n_pair, 2m, 2m) for pairs +-k."""


class CellGrid:
    """Sites sorted into n1 x n2 x ... equal cells of ``m`` real degrees of freedom each.

    In the orthonormal basis of cosines and sines over cells, every matrix that commutes with the
    translations is block diagonal. Vectors are (batch, n) in the order of the sites; mode vectors
    (batch, n) hold first the self-conjugate wave vectors, then the pairs (cosine, sine).

    shape: cells along each axis. sites: (n_cells, n_basis), the site at each place of each cell,
    cells in row-major order. components: numbers per site.
    """

    def __init__(self, shape: tuple[int, ...], sites: np.ndarray, components: int) -> None:
        if math.prod(shape) != len(sites):
            raise InputError("cells", f"{math.prod(shape)} cells", len(sites))
        self.shape = tuple(shape)
        self.n_cells, n_basis = sites.shape
        self.block_size = n_basis * components
        order = (sites.reshape(-1, 1) * components + np.arange(components)).ravel()
        identity = np.arange(order.size)
        self._order = None if (order == identity).all() else torch.from_numpy(order)
        self._inverse = torch.from_numpy(np.argsort(order))
        self.first_cell = torch.from_numpy(order[: self.block_size])
        """Indices of the coordinates of the first cell."""
        self.cell_of_site, self.place_of_site = np.divmod(np.argsort(sites.ravel()), n_basis)
        """Cell of every site, and its place in it."""
        self._waves()

    def _waves(self) -> None:
        index = np.indices(self.shape).reshape(len(self.shape), -1)
        angle = 2.0 * np.pi * (index / np.array(self.shape)[:, None]).T @ index
        partner = np.ravel_multi_index(tuple((-index) % np.array(self.shape)[:, None]), self.shape)
        single = np.flatnonzero(partner == np.arange(self.n_cells))
        pairs = np.flatnonzero(partner > np.arange(self.n_cells))
        self._single, self._pairs = torch.from_numpy(single), torch.from_numpy(pairs)
        scale = 1.0 / math.sqrt(self.n_cells)
        waves = [np.cos(angle[single]), math.sqrt(2) * np.cos(angle[pairs])]
        waves.append(math.sqrt(2) * np.sin(angle[pairs]))
        self._self_wave, self._cosine, self._sine = (
            torch.from_numpy(np.ascontiguousarray(scale * wave)) for wave in waves
        )

    def blocks(self, matrix: Tensor) -> Blocks:
        """The diagonal blocks of a translation-invariant symmetric matrix (n, n)."""
        return self.blocks_of(matrix[self.first_cell])

    def blocks_of(self, first: Tensor) -> Blocks:
        """The same from the rows (m, n) of the first cell alone."""
        m = self.block_size
        order = slice(None) if self._order is None else self._order
        rows = first[:, order].reshape(m, *self.shape, m)
        axes = tuple(range(1, 1 + len(self.shape)))
        spectrum = torch.fft.fftn(rows, dim=axes).reshape(m, self.n_cells, m).transpose(0, 1)
        single = spectrum[self._single].real
        pair = spectrum[self._pairs]
        top = torch.cat([pair.real, -pair.imag], dim=2)
        bottom = torch.cat([pair.imag, pair.real], dim=2)
        paired = torch.cat([top, bottom], dim=1)
        single, paired = 0.5 * (single + single.mT), 0.5 * (paired + paired.mT)
        return single.contiguous(), paired.contiguous()

    def from_modes(self, z: Tensor, blocks: Blocks) -> Tensor:
        """Site vectors whose mode vectors are z (batch, n) times the blocks, row by row."""
        batch, m, n_self = len(z), self.block_size, len(self._single)
        single = z[:, : n_self * m].view(batch, n_self, m).transpose(0, 1)
        single = torch.bmm(single, blocks[0]).transpose(0, 1)
        u = torch.matmul(self._self_wave.T, single)
        if len(self._pairs):
            pair = z[:, n_self * m :].view(batch, len(self._pairs), 2 * m).transpose(0, 1)
            pair = (
                torch.bmm(pair, blocks[1]).view(len(self._pairs), batch, 2, m).permute(2, 1, 0, 3)
            )
            u += torch.matmul(self._cosine.T, pair[0])
            u += torch.matmul(self._sine.T, pair[1])
        u = u.view(batch, self.n_cells * m)
        return u if self._order is None else u[:, self._inverse]

    def to_modes(self, u: Tensor, blocks: Blocks) -> Tensor:
        """Mode vectors of u (batch, n), multiplied by the blocks, row by row."""
        batch, m, n_self = len(u), self.block_size, len(self._single)
        cells = (u if self._order is None else u[:, self._order]).view(batch, self.n_cells, m)
        z = torch.empty(batch, self.n_cells * m, dtype=u.dtype)
        single = torch.matmul(self._self_wave, cells).transpose(0, 1)
        z[:, : n_self * m].view(batch, n_self, m).copy_(
            torch.bmm(single, blocks[0]).transpose(0, 1)
        )
        if len(self._pairs):
            both = torch.empty(batch, len(self._pairs), 2, m, dtype=u.dtype)
            torch.matmul(self._cosine, cells, out=both[:, :, 0])
            torch.matmul(self._sine, cells, out=both[:, :, 1])
            pair = both.view(batch, len(self._pairs), 2 * m).transpose(0, 1)
            pair = torch.bmm(pair, blocks[1])
            z[:, n_self * m :].view(batch, len(self._pairs), 2 * m).copy_(pair.transpose(0, 1))
        return z

    def quadratic_form(self, u: Tensor, blocks: Blocks) -> Tensor:
        """u M u (batch,) for vectors u (batch, n) and the matrix M with these blocks."""
        batch, m = len(u), self.block_size
        cells = (u if self._order is None else u[:, self._order]).view(batch, self.n_cells, m)
        single = torch.matmul(self._self_wave, cells).transpose(0, 1)
        total = (torch.bmm(single, blocks[0]) * single).sum((0, 2))
        if len(self._pairs):
            waves = torch.stack([self._cosine, self._sine], 1).flatten(0, 1)
            pair = torch.matmul(waves, cells).view(batch, len(self._pairs), 2 * m).transpose(0, 1)
            total += (torch.bmm(pair, blocks[1]) * pair).sum((0, 2))
        return total

    def spread(self, rows: Tensor) -> Tensor:
        """The (n, n) translation-invariant matrix with the given rows (m, n) of the first cell."""
        m = self.block_size
        order = torch.arange(self.n_cells * m) if self._order is None else self._order
        block = rows[:, order].view(m, *self.shape, m)
        out = torch.empty(self.n_cells * m, self.n_cells * m, dtype=rows.dtype)
        axes = tuple(range(1, 1 + len(self.shape)))
        for cell, place in enumerate(np.ndindex(*self.shape)):
            moved = torch.roll(block, place, dims=axes).reshape(m, -1)
            out[cell * m : (cell + 1) * m] = moved
        return out[self._inverse][:, self._inverse] if self._order is not None else out
