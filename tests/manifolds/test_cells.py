"""Modes of a grid of cells: an orthonormal basis in which invariant matrices fall into blocks."""

import numpy as np
import pytest
import torch

from helmflow.errors import InputError
from helmflow.manifolds.cells import CellGrid
from helmflow.manifolds.symmetry import crystal_symmetry
from structures import structures

SHAPES = [((1,), 4, 2), ((2, 2, 2), 3, 3), ((3, 4), 2, 1), ((5, 1, 3), 2, 3), ((4, 4, 4), 1, 3)]


def shuffled(shape, n_basis, components, rng):
    """Cells whose sites are numbered in no order at all."""
    sites = rng.permutation(np.prod(shape) * n_basis).reshape(-1, n_basis)
    return CellGrid(shape, sites, components)


def identity_blocks(grid):
    return grid.blocks(torch.eye(grid.n_cells * grid.block_size, dtype=torch.float64))


@pytest.mark.parametrize(("shape", "n_basis", "components"), SHAPES)
def test_modes_are_orthonormal(shape, n_basis, components, rng, generator):
    grid = shuffled(shape, n_basis, components, rng)
    u = torch.randn(7, grid.n_cells * grid.block_size, generator=generator, dtype=torch.float64)
    one = identity_blocks(grid)
    z = grid.to_modes(u, one)
    torch.testing.assert_close(z.square().sum(1), u.square().sum(1))
    torch.testing.assert_close(grid.from_modes(z, one), u)


@pytest.mark.parametrize(("shape", "n_basis", "components"), SHAPES)
def test_blocks_act_like_the_whole_matrix(shape, n_basis, components, rng, generator):
    grid = shuffled(shape, n_basis, components, rng)
    n = grid.n_cells * grid.block_size
    rows = torch.randn(grid.block_size, n, generator=generator, dtype=torch.float64)
    matrix = grid.spread(rows)
    torch.testing.assert_close(matrix[grid.first_cell], rows)
    matrix = matrix + matrix.T
    u = torch.randn(5, n, generator=generator, dtype=torch.float64)
    one, blocks = identity_blocks(grid), grid.blocks(matrix)
    torch.testing.assert_close(grid.from_modes(grid.to_modes(u, blocks), one), u @ matrix)
    torch.testing.assert_close(grid.from_modes(grid.to_modes(u, one), blocks), u @ matrix)
    values = torch.cat([torch.linalg.eigvalsh(part).ravel() for part in blocks])
    torch.testing.assert_close(values.sort().values, torch.linalg.eigvalsh(matrix))


def test_cells_of_a_crystal_are_translations_of_one_another():
    lattice = structures()["ice/mw_hexagonal_64"]
    positions, cell = lattice.positions(), np.diag(lattice.edges)
    grid = crystal_symmetry(positions, cell, ("O",) * 64).cells
    assert grid.shape == (2, 2, 2)
    assert grid.block_size == 24


def test_the_number_of_cells_must_fit():
    with pytest.raises(InputError, match="cells: expected 6 cells"):
        CellGrid((2, 3), np.arange(4).reshape(4, 1), 1)
