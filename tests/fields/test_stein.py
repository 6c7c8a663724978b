"""Stein functions: what autograd says they are, and their zero mean under every u_lambda."""

import math

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian, jacobian

from assertions import assert_consistent
from helmflow.families.path.base import build_base
from helmflow.families.path.ladder import LadderSampler
from helmflow.families.registry import family_of
from helmflow.fields.base import GradientField, Point
from helmflow.fields.local import LocalField
from helmflow.fields.pairs import PairField, RadialGrid, bond_shells
from helmflow.fields.potential import HarmonicField, TargetField
from helmflow.settings import Settings
from helmflow.skeleton.budget import Budget
from helmflow.system import load_system
from small_systems import fcc_crystal


def problem_and_base(system):
    problem = family_of(system).problem(Budget())
    return problem, build_base(problem, Settings())[0]


def random_point(problem, base, generator, n=3):
    """Displacements of the base and a direction that has nothing to do with them."""
    u, direction = base.sample(n, generator), base.sample(n, generator)
    virial = ((u @ base.precision) * direction).sum(1)
    return Point(u, problem.target(u)[1], direction, virial)


def by_autograd(phi, covariance, point):
    """grad phi . direction - tr[C grad grad phi] for one generating function."""
    slope = torch.stack([jacobian(phi, u) for u in point.u])
    bend = torch.stack([(hessian(phi, u) * covariance).sum() for u in point.u])
    return (slope * point.direction).sum(1) - bend


def assert_same(found, expected, scale=1.0):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9 * scale)


def test_harmonic_field_is_the_virial(generator):
    problem, base = problem_and_base(load_system("lattice/phi4_4"))
    point = random_point(problem, base, generator)

    def phi(u):
        return 0.5 * u @ base.precision @ u

    found = HarmonicField(base.dim).stein(point)
    assert_same(found[0], by_autograd(phi, base.covariance, point))


def test_harmonic_field_counts_only_free_coordinates(generator):
    problem, base = problem_and_base(load_system("ice/mw_cubic_8"))
    assert base.dim == 21
    point = random_point(problem, base, generator)

    def phi(u):
        return 0.5 * u @ base.precision @ u

    found = HarmonicField(base.dim).stein(point)
    assert_same(found[0], by_autograd(phi, base.covariance, point))


@pytest.mark.parametrize("power", [2, 3, 4, 6])
def test_local_field(power, generator):
    problem, base = problem_and_base(load_system("lattice/phi4_4"))
    point = random_point(problem, base, generator)
    found = LocalField(base.covariance, powers=(power,)).stein(point)
    expected = by_autograd(lambda u: (u**power).sum() / power, base.covariance, point)
    assert_same(found[0], expected)


def pair_functions(shell, field, mirrored):
    """The generating functions of a PairField as its docstring defines them."""
    first, second = torch.tensor(shell.first).long(), torch.tensor(shell.second).long()
    bond = torch.from_numpy(shell.bond)
    unit = bond / bond.norm(dim=1, keepdim=True)
    centre, spacing, width, n_radial = field.grid.even()

    def relative(u):
        sites = u.view(-1, 3)
        return sites[second] - sites[first]

    def gaussian(k, sign):
        middle = centre + k * spacing
        return lambda u: torch.exp(
            -0.5 * (((bond + sign * relative(u)).norm(dim=1) - middle) / width) ** 2
        ).sum()

    functions = [
        lambda u: 0.5 * ((unit * relative(u)).sum(1) ** 2).sum(),
        lambda u: 0.5 * (relative(u) ** 2).sum(),
    ]
    for sign in (1.0, -1.0) if mirrored else (1.0,):
        functions += [gaussian(k, sign) for k in range(int(n_radial))]
    return functions


def shells_of(system, n_shells=2):
    positions, cell = system.reference_positions.numpy(), system.cell.numpy()
    return bond_shells(positions, cell, system.species, n_shells)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("shell", [0, 1])
def test_pair_field(shell, mirrored, generator):
    system = load_system("ice/mw_cubic_8")
    problem, base = problem_and_base(system)
    point = random_point(problem, base, generator, n=9)  # more than one block of lanes
    chosen = shells_of(system)[shell]
    grid = RadialGrid.around(chosen, base.covariance, 4, reach=(3.5, 4.0))
    field = PairField(chosen, base.covariance, grid, mirrored=mirrored)
    found = field.stein(point)
    functions = pair_functions(chosen, field, mirrored)
    assert len(found) == field.size == len(functions)
    for row, phi in zip(found, functions, strict=True):
        assert_same(row, by_autograd(phi, base.covariance, point), scale=row.abs().max().item())


def test_target_field(generator):
    system = load_system("ice/mw_cubic_8")
    problem, base = problem_and_base(system)
    point = random_point(problem, base, generator)
    energy, beta = system.energy, system.beta

    def trace(u):
        return beta * energy.hessian_trace(u.view(-1, 8, 3), base.covariance)

    found = TargetField(lambda u: problem.target(u)[1], trace).stein(point)
    for row, sign in zip(found, (1.0, -1.0), strict=True):
        slope = sign * problem.target(sign * point.u)[1]
        bend = []
        for u in sign * point.u:
            full = hessian(lambda v: beta * energy(energy.reference + v.view(1, 8, 3)).sum(), u)
            bend.append((full * base.covariance).sum())
        expected = (slope * point.direction).sum(1) - torch.stack(bend)
        assert_same(row, expected, scale=row.abs().max().item())


def test_shells_hold_every_bond_once(tmp_path):
    """fcc: 6 nearest and 3 next-nearest bonds a site, also across images in small cells."""
    for repeats in ((2, 2, 2), (3, 2, 2)):
        system = fcc_crystal(tmp_path, repeats)
        nearest, next_nearest = shells_of(system)
        assert len(nearest.first) == 6 * system.n_particles
        assert len(next_nearest.first) == 3 * system.n_particles
        edge = (4 / 1.28) ** (1 / 3)
        assert nearest.radius == pytest.approx(edge / math.sqrt(2))
        assert next_nearest.radius == pytest.approx(edge)
        for shell in (nearest, next_nearest):
            np.testing.assert_allclose(np.linalg.norm(shell.bond, axis=1), shell.radius)


def test_shells_leave_out_bonds_that_cannot_move(tmp_path):
    shells = shells_of(fcc_crystal(tmp_path, (1, 1, 1)))
    assert shells
    for shell in shells:
        assert (shell.first != shell.second).all()


def test_shells_keep_species_apart(tmp_path):
    system = fcc_crystal(tmp_path, species=["Ar", "Ne"] * 16)
    for shell in shells_of(system, 4):
        kinds = {
            tuple(sorted((system.species[i], system.species[j])))
            for i, j in zip(shell.first, shell.second, strict=True)
        }
        assert len(kinds) == 1


def equilibrium_statistics(name, *, chains, sweeps, wrap=lambda field: field):
    """Chain means (F, 3 nodes, chains) of all Stein functions of a problem."""
    problem, base = problem_and_base(load_system(name))
    fields = [wrap(field) for field in problem.fields(base)]
    generator = torch.Generator().manual_seed(7)
    sampler = LadderSampler(problem, base, [0.0, 0.5, 1.0], [chains] * 3, fields, generator)
    sampler.burn_in(12, lambda done, total: None)
    sampler.sample(sweeps)
    controls = sampler.state()["controls"]  # (sweeps, F, 3 chains)
    return controls.mean(0).view(-1, 3, chains), controls.std((0, 2))


def assert_zero_means(means, spread):
    n = means.shape[2]
    for k, rows in enumerate(means):
        for row in rows:
            stderr = row.std().item() / math.sqrt(n)
            assert_consistent(row.mean().item(), stderr, 0.0, resolve=0.6 * spread[k].item())


SIZES = {
    "lattice/phi4_4": (400, 20),
    "lennard_jones/fcc_32": (64, 20),
    "ice/mw_cubic_8": (64, 20),
    "ice/mw_cubic_64": (64, 16),
}


@pytest.mark.parametrize("name", SIZES)
def test_every_stein_function_has_zero_mean(name):
    chains, sweeps = SIZES[name]
    assert_zero_means(*equilibrium_statistics(name, chains=chains, sweeps=sweeps))


class Mutant(GradientField):
    def __init__(self, field):
        self.field, self.size = field, field.size


class NoTrace(Mutant):
    """The Laplacian left out: the same function along no direction at all is taken off."""

    def stein(self, point):
        still = point._replace(
            direction=torch.zeros_like(point.direction), virial=torch.zeros_like(point.virial)
        )
        return self.field.stein(point) - self.field.stein(still)


class WrongForce(Mutant):
    """The force of one density where another one is sampled."""

    def stein(self, point):
        moved = point._replace(direction=1.1 * point.direction, virial=1.1 * point.virial)
        return self.field.stein(moved)


@pytest.mark.parametrize("mutant", [NoTrace, WrongForce])
def test_wrong_stein_functions_are_noticed(mutant):
    found = equilibrium_statistics("lennard_jones/fcc_32", chains=64, sweeps=20, wrap=mutant)
    with pytest.raises(AssertionError, match="z ="):
        assert_zero_means(*found)
