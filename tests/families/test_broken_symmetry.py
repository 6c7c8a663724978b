"""Fields with two wells that phi -> -phi exchanges: values, the division into halves, moves."""

from dataclasses import replace

import pytest
import torch

import helmflow as hf
from helmflow.energies.phi4 import Phi4
from helmflow.estimators.nodes import Ladder
from helmflow.families.path.base import UNSTABLE, find_start
from helmflow.families.path.basins import basin_checks
from helmflow.families.path.broken_symmetry import barrier_of_unequal_wells
from helmflow.families.path.ladder import LadderSampler
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.families.path.well import Well
from helmflow.samplers.block_flips import random_blocks
from helmflow.settings import Settings
from helmflow.skeleton.checks import unequal_wells
from helmflow.streams import stream
from helmflow.system import load_system
from phi4_exact import log_z


def field(shape, mass_squared, coupling, energy=Phi4):
    known = load_system("lattice/phi4_4")
    action = energy(shape, mass_squared=mass_squared, coupling=coupling)
    n_sites = shape[0] * shape[1]
    return replace(known, energy=action, n_particles=n_sites, references=())


# ln Z by the transfer matrix of rows, 40 nodes per site
@pytest.mark.parametrize(
    ("shape", "mass_squared", "coupling", "exact"),
    [
        ((2, 4), -4.0, 1.0, 27.590421),  # both wells deep: chains used to freeze between them
        ((2, 8), -4.0, 1.0, 54.487246),
        ((2, 2), -12.0, 8.0, 14.472258),
        ((2, 4), -5.2, 3.5, 10.642056),  # domain walls carry a part of the weight
    ],
)
def test_partition_functions_with_two_wells(shape, mass_squared, coupling, exact):
    result = hf.free_energy(field(shape, mass_squared, coupling), seed=1)
    assert "one of two wells" in result.base
    assert result.grade in "AB"
    # one of four beyond 4 standard errors: one run in 4000
    assert abs(result.value - exact) < 4.0 * result.stderr
    assert result.stderr < 0.011


def test_a_field_that_crosses_between_its_wells_keeps_the_base_about_zero():
    problem = LatticeProblem(field((4, 4), -4.0, 6.975))
    start = find_start(problem, Settings())
    assert start.problem.well == Well()
    assert start.name == "self-consistent harmonic"


def test_the_two_parts_of_a_divided_target_add_up():
    phi = torch.linspace(-3.0, 3.0, 40, dtype=torch.float64).view(10, 4)
    well = Well(0.7, 1.3)
    parts = [(-well.half(sign * phi)[0]).exp() for sign in (1.0, -1.0)]
    torch.testing.assert_close(sum(parts), torch.full((10,), 2.0, dtype=torch.float64))


def test_the_gradient_of_a_divided_target():
    problem = LatticeProblem(field((2, 2), -2.0, 1.0)).in_well(Well(0.7, 1.3))
    u = torch.randn(5, 4, generator=stream(0, "u"), dtype=torch.float64)
    _, gradient = problem.target(u)
    step = 1e-5 * torch.eye(4, dtype=torch.float64)
    for k in range(4):
        ahead, behind = problem.target(u + step[k])[0], problem.target(u - step[k])[0]
        torch.testing.assert_close(gradient[:, k], (ahead - behind) / 2e-5, rtol=1e-7, atol=1e-6)


class Tilted(Phi4):
    """phi^4 in a weak external field: not even."""

    def __init__(self, shape, tilt=1e-4, **couplings):
        super().__init__(shape, **couplings)
        self.tilt = tilt

    def energy_and_gradient(self, x):
        action, gradient = super().energy_and_gradient(x)
        return action - self.tilt * x.sum((-2, -1)), gradient - self.tilt


def test_wells_that_no_symmetry_exchanges_are_not_taken_for_equal():
    for energy, made_even in ((Phi4, False), (Tilted, True)):
        problem = LatticeProblem(field((2, 4), -4.0, 1.0, energy))
        start = find_start(problem, Settings())
        assert start.name.endswith("in one of two wells")
        assert start.problem.well.even == made_even
        assert ("<S>" in start.problem.observable_names) == (not made_even)


class Staggered(Tilted):
    """A field that uniform configurations do not feel."""

    def energy_and_gradient(self, x):
        action, gradient = Phi4.energy_and_gradient(self, x)
        sign = torch.tensor([1.0, -1.0]).double().repeat(x.shape[-1] // 2).expand_as(x)
        return action - self.tilt * (sign * x).sum((-2, -1)), gradient - self.tilt * sign


def test_an_action_is_even_only_if_that_of_all_fields_is():
    energy = Staggered((2, 4), mass_squared=-4.0, coupling=1.0, tilt=0.3)
    problem = LatticeProblem(replace(field((2, 4), -4.0, 1.0), energy=energy))
    assert find_start(problem, Settings()).problem.well.even


# ln Z by the transfer matrix, as above; from wells hardly different to one that is alone
@pytest.mark.parametrize("tilt", [0.02, 0.3, 1.0])
def test_partition_functions_with_unequal_wells(tilt):
    energy = Tilted((2, 4), mass_squared=-4.0, coupling=1.0, tilt=tilt)
    system = replace(field((2, 4), -4.0, 1.0), energy=energy)
    result = hf.free_energy(system, seed=2)
    exact = log_z(2, -4.0, 1.0, 40, length=4, tilt=tilt, shift=2.0)
    assert result.grade == "A"
    assert abs(result.value - exact) < 4.0 * result.stderr
    assert result.stderr < 0.011
    # a base in the wrong well alone would miss the other by as much
    assert log_z(2, -4.0, 1.0, 40, length=4, tilt=0.0, shift=2.0) < exact - 0.006 * (tilt > 0.1)


def test_the_gradient_of_an_action_made_even():
    energy = Tilted((2, 2), mass_squared=-2.0, coupling=1.0, tilt=0.4)
    whole = LatticeProblem(replace(field((2, 2), -2.0, 1.0), energy=energy))
    problem = whole.in_well(Well(0.7, 1.3, even=True))
    u = torch.randn(5, 4, generator=stream(0, "u"), dtype=torch.float64)
    value, gradient = problem.target(u)
    step = 1e-5 * torch.eye(4, dtype=torch.float64)
    for k in range(4):
        ahead, behind = problem.target(u + step[k])[0], problem.target(u - step[k])[0]
        torch.testing.assert_close(gradient[:, k], (ahead - behind) / 2e-5, rtol=1e-7, atol=1e-6)
    # both halves of both signs, together, are the given weight of a field and of its mirror image
    phi = u + 0.7
    parts = [problem.target(sign * phi - 0.7)[0] for sign in (1.0, -1.0)]
    given = [whole.target(sign * phi)[0] for sign in (1.0, -1.0)]
    torch.testing.assert_close(
        torch.logaddexp(*(-p for p in parts)), torch.logaddexp(*(-g for g in given))
    )
    assert value.shape == (5,)


def sampler_in_a_well(seed=0):
    problem, base, _ = find_start(LatticeProblem(field((2, 4), -5.2, 3.5)), Settings())
    ladder = Ladder.lobatto(3)
    return LadderSampler(problem, base, ladder.lam, [8, 8, 64], [], stream(seed, "chains"))


def test_jumps_resume_bit_for_bit():
    whole, half = sampler_in_a_well(), sampler_in_a_well()
    for sampler in (whole, half):
        sampler.burn_in(2, lambda done, total: None)
        sampler.sample(3)
    resumed = sampler_in_a_well(seed=1)
    resumed.restore(half.state())
    for sampler in (whole, resumed):
        sampler.sample(3)
    assert torch.equal(torch.stack(whole.records.work), torch.stack(resumed.records.work))


def test_blocks_are_rectangles_and_bands():
    blocks = random_blocks(2000, (3, 4), stream(0, "blocks")).view(-1, 3, 4)
    rows, columns = blocks.any(2), blocks.any(1)
    assert torch.equal(blocks, rows[:, :, None] & columns[:, None, :])
    assert blocks.flatten(1).any(1).all()
    bands = (rows.sum(1) == 3) & (columns.sum(1) < 4)
    assert 0.2 < bands.double().mean() < 0.5


def test_checks_of_basins():
    sampler = sampler_in_a_well()
    sampler.burn_in(1, lambda done, total: None)
    (mirror,) = basin_checks(sampler, "self-consistent harmonic")
    assert mirror.passed
    base, _ = basin_checks(sampler, UNSTABLE)
    assert (base.passed, base.severity) == (False, "soft")
    for size, severity in ((1e-6, "soft"), (1e-2, "hard")):
        energy = Tilted((2, 4), mass_squared=-5.2, coupling=3.5, tilt=size)
        system = replace(sampler.problem.system, energy=energy)
        sampler.problem = LatticeProblem(system, None, sampler.problem.well._replace(even=False))
        (mirror,) = basin_checks(sampler, "self-consistent harmonic")
        assert (mirror.passed, mirror.severity) == (False, severity)
        even = sampler.problem.well._replace(even=True)
        sampler.problem = LatticeProblem(system, None, even)
        assert not basin_checks(sampler, "self-consistent harmonic")


@pytest.mark.parametrize(
    ("mass_squared", "tilt", "outcome"),
    [
        (-1.0, 0.05, None),
        (-4.0, 0.0, None),
        (-2.5, 0.05, "soft"),
        (-4.0, 0.05, "hard"),
        (-4.0, 4.0, None),
    ],
)
def test_wells_that_no_symmetry_exchanges_cost_the_grade(mass_squared, tilt, outcome):
    energy = Tilted((2, 4), mass_squared=mass_squared, coupling=1.0, tilt=tilt)
    problem = LatticeProblem(replace(field((2, 4), -4.0, 1.0), energy=energy))
    u = torch.randn(8, 8, generator=stream(0, "u"), dtype=torch.float64)
    check = unequal_wells(barrier_of_unequal_wells(problem, u))
    assert (None if check.passed else check.severity) == outcome
