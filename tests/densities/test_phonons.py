"""Bases made from a potential: the Hessian, and the self-consistent fixed point."""

import math

import pytest
import torch
from scipy.optimize import brentq

from assertions import assert_consistent
from helmflow.densities.gaussian import Gaussian
from helmflow.densities.phonons import force_constants, self_consistent
from helmflow.errors import InputError
from helmflow.families.path.base import STIFFNESS, build_base
from helmflow.families.path.crystal_problem import CrystalProblem
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.manifolds.symmetry import lattice_symmetry
from helmflow.settings import BaseSettings, Settings
from helmflow.system import load_system
from small_systems import fcc_crystal, phi4_field


def base_of(problem, kind="self_consistent", *, seed=0, method="auto", iterations=None):
    settings = BaseSettings(kind=kind, iterations=iterations)
    return build_base(problem, Settings(method=method, seed=seed, base=settings))[0]


@pytest.mark.parametrize("name", ["ice/mw_cubic_8", "lennard_jones/fcc_32"])
def test_force_constants_are_the_hessian(name):
    crystal = CrystalProblem(load_system(name))
    energy, beta = crystal.system.energy, crystal.system.beta
    found = force_constants(crystal.target, crystal.symmetry, step=1e-4)

    def potential(u):
        return beta * energy(energy.reference + u.view(1, -1, 3)).sum()

    exact = torch.autograd.functional.hessian(potential, torch.zeros(len(found)).double())
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6 * exact.abs().max().item())
    assert (found - found.T).abs().max() == 0.0


def quartic(a, c):
    """u(x) = a x^2/2 + c x^4/4 on one site."""

    def target(x):
        return (0.5 * a * x**2 + 0.25 * c * x**4).sum(1), a * x + c * x**3

    return target


@pytest.mark.parametrize(("a", "c"), [(1.0, 0.5), (-2.0, 2.0)])
def test_one_quartic_oscillator_reaches_its_gap_equation(generator, a, c):
    """K = a + 3 c / K, also where the potential has two wells."""
    symmetry = lattice_symmetry((1, 1))
    start = Gaussian(torch.eye(1, dtype=torch.float64), cells=symmetry.cells)
    ends = torch.tensor(
        [
            self_consistent(
                start,
                quartic(a, c),
                symmetry,
                iterations=12,
                n_samples=4000,
                generator=generator,
            ).precision.item()
            for _ in range(20)
        ]
    )
    gap = 0.5 * (a + math.sqrt(a * a + 12 * c))
    stderr = (ends.std() / math.sqrt(len(ends))).item()
    # the fixed point of a noisy iteration is off by terms of second order in its noise
    assert_consistent(ends.mean().item(), stderr, gap, resolve=0.05 * gap)


@pytest.mark.parametrize(("shape", "m2", "coupling"), [((4, 4), -4.0, 8.0), ((3, 5), -2.0, 4.0)])
def test_phi4_reaches_its_gap_equation(tmp_path, shape, m2, coupling):
    """K = K_free + 12 lambda <phi^2>_K, one number to solve for on a periodic lattice."""
    system = phi4_field(tmp_path, *shape, mass_squared=m2, coupling=coupling)
    problem = LatticeProblem(system)
    base = base_of(problem, iterations=20)
    unit_mass = torch.linalg.eigvalsh(problem.starting_precision())  # 2 (k^2 + 1)
    free = unit_mass + 2.0 * (m2 - 1.0)

    def gap(shift):
        return (12.0 * coupling / (free + shift)).mean().item() - shift

    shift = brentq(gap, -free.min().item() + 1e-9, 1e3)
    found = torch.linalg.eigvalsh(base.precision)
    assert (found / (free + shift) - 1).abs().max() < 0.05


@pytest.mark.parametrize("name", ["lattice/phi4_4", "ice/mw_cubic_8", "lennard_jones/fcc_32"])
def test_the_fit_lowers_the_divergence_from_the_target(name, generator):
    """KL(base || target) = <w>_base + ln Z, compared on the same white noise."""
    system = load_system(name)
    problem = (CrystalProblem if system.kind == "crystal" else LatticeProblem)(system)
    start = Gaussian(
        problem.starting_precision(),
        n_translations=problem.n_translations,
        cells=problem.symmetry.cells,
    )
    fitted = base_of(problem)
    z = start.noise(4000, generator)
    work = [
        problem.target(base.colour(z))[0] - 0.5 * z.square().sum(1) - base.log_normalizer
        for base in (start, fitted)
    ]
    change = work[1] - work[0]
    assert change.mean() < -5 * change.std() / math.sqrt(len(change))


def test_the_fit_is_a_function_of_the_seed(tmp_path):
    problem = LatticeProblem(phi4_field(tmp_path, 2, 3, mass_squared=1.0, coupling=1.0))
    ones = [base_of(problem, seed=seed).precision for seed in (1, 1, 2)]
    assert torch.equal(ones[0], ones[1])
    assert not torch.equal(ones[0], ones[2])


def test_an_unstable_crystal_is_refused(tmp_path):
    crystal = CrystalProblem(fcc_crystal(tmp_path, density=0.7))
    with pytest.raises(InputError, match=r"structure: .*imaginary mode.*on site \d+"):
        build_base(crystal, Settings())


def test_the_einstein_base_is_isotropic():
    crystal = CrystalProblem(load_system("lennard_jones/fcc_32"))
    phonons = base_of(crystal, "harmonic")
    springs = base_of(crystal, method="frenkel_ladd")
    found = springs.covariance.trace().item()
    assert found * STIFFNESS == pytest.approx(phonons.covariance.trace().item())
    assert springs.covariance.diagonal().std() < 1e-12 * found


def test_automatic_fits_where_symmetry_makes_it_sharp(tmp_path):
    """Low symmetry keeps the phonons; a fit that runs away falls back to them and says so."""
    field = LatticeProblem(phi4_field(tmp_path, 4, 4, mass_squared=-4.0, coupling=8.0))
    assert build_base(field, Settings())[1] == "self-consistent harmonic"
    assert build_base(field, Settings(base=BaseSettings(kind="harmonic")))[1] == "harmonic"
