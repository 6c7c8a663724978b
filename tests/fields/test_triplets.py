"""Many-body fields against automatic differentiation of their definition."""

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian, jacobian

from fitted_flows import problem_and_base
from helmflow.fields.base import Point, TransportField
from helmflow.fields.pairs import RadialGrid
from helmflow.fields.triplets import TripletField, has_equal_neighbours, nearest_neighbours
from helmflow.streams import stream


def field_of(name):
    problem, base = problem_and_base(name)
    shell, n = problem._shells[0], len(problem.system.reference_positions)
    grid = RadialGrid(0.9 * shell.radius, 1.12 * shell.radius, 3)
    neighbours, bonds = nearest_neighbours(shell, n)
    return TripletField(neighbours, bonds, base.covariance, grid), neighbours, bonds, base


def definition(neighbours, bonds, grid, m, form):
    j, d = torch.from_numpy(neighbours), torch.from_numpy(bonds)
    spacing = (grid.high - grid.low) / (grid.n_radial - 1)

    def phi(u):
        x = u.view(-1, 3)
        b = d + x[j] - x[:, None]
        r = b.norm(dim=2)
        n = b / r[..., None]
        p = torch.exp(-0.5 * ((r - grid.low - m * spacing) / (1.1 * spacing)) ** 2)
        if form == 0:
            return 0.5 * p.sum(1).square().sum()
        if form == 1:
            return 0.5 * (p[..., None] * n).sum(1).square().sum()
        return 0.5 * torch.einsum("ik,ika,ikb->iab", p, n, n).square().sum()

    return phi


@pytest.mark.parametrize("name", ["ice/mw_cubic_8", "lennard_jones/fcc_32"])
@pytest.mark.parametrize("form", [0, 1, 2], ids=["density", "asymmetry", "angles"])
def test_stein_functions_are_those_of_the_definition(name, form):
    field, neighbours, bonds, base = field_of(name)
    u, direction = base.sample(2, stream(0, "u")), base.sample(2, stream(1, "v"))
    found = field.stein(Point(u, u, direction, u[:, 0]))
    for m in range(3):
        phi = definition(neighbours, bonds, field.grid, m, form)
        slope = jacobian(phi, u[0]) @ direction[0]
        bend = (hessian(phi, u[0]) * base.covariance).sum()
        torch.testing.assert_close(found[3 * m + form, 0], slope - bend, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name", ["lattice/phi4_4", "ice/mw_cubic_8", "lennard_jones/fcc_32", "silicon/diamond_64"]
)
def test_contraction_is_the_weighted_sum_of_stein_functions(name, generator):
    problem, base = problem_and_base(name)
    u, direction = base.sample(9, generator), base.sample(9, generator)
    point = Point(u, problem.target(u)[1], direction, (u * direction).sum(1))
    for field in problem.transport_fields(base):
        assert isinstance(field, TransportField)
        weights = torch.randn(field.size, dtype=torch.float64, generator=generator)
        gradient, trace = field.contract(u, weights)
        expected = weights @ field.stein(point)
        found = (gradient * direction).sum(1) - trace
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-8)


def test_neighbours_are_mutual_and_ordered_alike():
    problem, _ = problem_and_base("lennard_jones/fcc_32")
    shell = problem._shells[0]
    assert has_equal_neighbours(shell, 32, most=12)
    assert not has_equal_neighbours(shell, 32, most=11)
    neighbours, bonds = nearest_neighbours(shell, 32)
    assert neighbours.shape == (32, 12)
    np.testing.assert_allclose(bonds, bonds[:1].repeat(32, 0), atol=1e-9)
    assert all(i in neighbours[j] for i in range(32) for j in neighbours[i])
