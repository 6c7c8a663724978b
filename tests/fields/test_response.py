"""The field of linear response against automatic differentiation of its definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian, jacobian

from fitted_flows import problem_and_base
from helmflow.fields.base import Point
from helmflow.fields.pairs import PairField, RadialGrid, joined
from helmflow.fields.response import ResponseField, cells_of_bonds
from helmflow.manifolds.cells import CellGrid
from helmflow.streams import stream


def field_of(name, *, mirrored=True, n_shells=1, one_cell=False):
    problem, base = problem_and_base(name)
    pairs = []
    for shell in problem._shells[:n_shells]:
        grid = RadialGrid.around(shell, base.covariance, 3, reach=(2.0, 2.5))
        pairs.append(PairField(shell, base.covariance, grid, mirrored=mirrored))
    weights = [np.random.default_rng(k).normal(size=field.size) for k, field in enumerate(pairs)]
    n_sites = len(problem.system.reference_positions)
    sites = CellGrid((1,), np.arange(n_sites)[None], 3) if one_cell else base.cells
    cells = cells_of_bonds(joined([field.shell for field in pairs]), sites)

    def respond(force):
        return base.colour(base.pull(force))

    return ResponseField(pairs, weights, base.covariance, cells, respond), base


def definition(field, covariance):
    parts = [
        potential_of(pairs, torch.from_numpy(weights))
        for pairs, weights in zip(field.pairs, field.weights, strict=True)
    ]

    def phi(u):
        force = jacobian(lambda u: sum(part(u) for part in parts), u, create_graph=True)
        return 0.5 * force @ covariance @ force

    return phi


def potential_of(pairs, weights):
    shell, grid = pairs.shell, pairs.grid
    i, j = (torch.from_numpy(x.astype(np.int64)) for x in (shell.first, shell.second))
    d0 = torch.from_numpy(shell.bond)
    n0 = d0 / d0.norm(dim=1, keepdim=True)
    spacing = (grid.high - grid.low) / (grid.n_radial - 1)
    centres = grid.low + spacing * torch.arange(grid.n_radial, dtype=torch.float64)
    signs = (1.0, -1.0)[: (pairs.size - 2) // grid.n_radial]

    def potential(u):
        w = u.view(-1, 3)[j] - u.view(-1, 3)[i]
        terms = [0.5 * (n0 * w).sum(1).square().sum()[None], 0.5 * w.square().sum()[None]]
        for sign in signs:
            r = (d0 + sign * w).norm(dim=1)[:, None]
            terms.append(torch.exp(-0.5 * ((r - centres) / (1.1 * spacing)) ** 2).sum(0))
        return weights @ torch.cat(terms)

    return potential


@pytest.mark.parametrize(("mirrored", "n_shells"), [(False, 1), (True, 1), (True, 2)])
@pytest.mark.parametrize("name", ["ice/mw_cubic_8", "lennard_jones/fcc_32"])
def test_stein_function_is_that_of_the_definition(name, mirrored, n_shells):
    field, base = field_of(name, mirrored=mirrored, n_shells=n_shells)
    phi = definition(field, base.covariance)
    u, direction = base.sample(9, stream(0, "u")), base.sample(9, stream(1, "v"))
    found = field.stein(Point(u, u, direction, u[:, 0]))
    assert found.shape == (1, 9)
    for row in (0, 8):  # the second block of lanes too
        slope = jacobian(phi, u[row]) @ direction[row]
        bend = (hessian(phi, u[row]) * base.covariance).sum()
        scale = max(slope.abs().item(), bend.abs().item())
        assert abs(found[0, row] - (slope - bend)).item() < 1e-10 * scale


@pytest.mark.parametrize("name", ["lennard_jones/fcc_32", "ice/mw_hexagonal_64"])
def test_cells_change_nothing_but_the_cost(name):
    whole, base = field_of(name, n_shells=2, one_cell=True)
    cells, _ = field_of(name, n_shells=2)
    assert cells._cells.n_cells > whole._cells.n_cells == 1
    u = base.sample(3, stream(0, "u"))
    weight = torch.tensor([0.7], dtype=torch.float64)
    for found, expected in zip(cells.contract(u, weight), whole.contract(u, weight), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-9)


def test_contraction_is_the_stein_function(generator):
    field, base = field_of("lennard_jones/fcc_32")
    u, direction = base.sample(9, generator), base.sample(9, generator)
    weight = torch.tensor([-0.3], dtype=torch.float64)
    gradient, trace = field.contract(u, weight)
    found = (gradient * direction).sum(1) - trace
    expected = weight[0] * field.stein(Point(u, u, direction, u[:, 0]))[0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_sites_written_with_few_digits_have_the_same_cells():
    _, base = field_of("lennard_jones/fcc_108")
    problem, _ = problem_and_base("lennard_jones/fcc_108")
    shell = problem._shells[0]
    noise = np.random.default_rng(0).normal(size=shell.bond.shape)
    for size in (1e-7, 1e-5):
        noisy = replace(shell, bond=shell.bond + size * noise)
        assert cells_of_bonds(noisy, base.cells).n_cells == base.cells.n_cells == 27
