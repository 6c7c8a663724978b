"""Absolute free energies of Einstein and harmonic crystals in the published convention.

exp(-beta F) = Z / (N! Lambda^3N), Z over all translations and permutations of one crystal
(doi:10.1088/2632-2153/ac6b16). The Einstein numbers are
beta F/N = (1/N) ln(N Lambda^3/V) - (3/2)(1 - 1/N) ln(2 pi s^2/Lambda^2) - (3/2N) ln N; the
harmonic ones come from the eigenvalues of an independently programmed Hessian.
"""

import math

import pytest
import torch

from helmflow.densities.gaussian import Gaussian
from helmflow.families.path.crystal_problem import CrystalProblem
from helmflow.system import load_system

EINSTEIN = [
    ("ice/mw_cubic_8", 0.2, 3.615406320),
    ("ice/mw_cubic_64", 0.2, 4.505639216),
    ("ice/mw_cubic_216", 0.2, 4.625882161),
    ("lennard_jones/fcc_32", 0.01, 10.558368748),
    ("lennard_jones/fcc_32", 0.05, 5.880939815),
    ("lennard_jones/fcc_256", 0.01, 10.983969954),
    ("lennard_jones/fcc_256", 0.05, 6.174516817),
]

HARMONIC = [
    ("ice/mw_cubic_8", -31.144181, -25.812739),
    ("ice/mw_cubic_64", -31.144181, -25.088740),
    ("ice/mw_hexagonal_64", -31.144181, -25.110178),
    ("ice/mw_cubic_216", -31.144181, -25.005483),
    ("lennard_jones/fcc_256", -3.151613, 2.984808),
    pytest.param("lennard_jones/fcc_500", -3.151613, 2.999679, marks=pytest.mark.slow),
]


def per_particle(crystal, base):
    """beta F / N of the crystal whose Boltzmann factor is the unnormalised density of the base."""
    return -(base.log_normalizer + crystal.log_measure) / crystal.system.n_particles


def lattice_energy(crystal):
    at_rest = torch.zeros(1, 3 * crystal.system.n_particles, dtype=torch.float64)
    return crystal.target(at_rest)[0].item() / crystal.system.n_particles


@pytest.mark.parametrize(("name", "spread", "expected"), EINSTEIN)
def test_einstein_crystal(name, spread, expected):
    crystal = CrystalProblem(load_system(name))
    precision = torch.eye(3 * crystal.system.n_particles, dtype=torch.float64) / spread**2
    base = Gaussian(precision, n_translations=3, cells=crystal.symmetry.cells)
    assert per_particle(crystal, base) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("name", "u_0", "expected"), HARMONIC)
def test_harmonic_crystal(name, u_0, expected):
    crystal = CrystalProblem(load_system(name))
    assert lattice_energy(crystal) == pytest.approx(u_0, abs=1e-6)
    base = Gaussian(crystal.starting_precision(), n_translations=3, cells=crystal.symmetry.cells)
    found = lattice_energy(crystal) + per_particle(crystal, base)
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_wavelength_shifts_by_three_logarithms_a_particle():
    crystal = CrystalProblem(load_system("lennard_jones/fcc_32"))
    n, volume = 32, 32 / 1.28
    expected = math.log(volume / n) + 1.5 * math.log(n)  # Lambda = sigma = 1
    assert crystal.log_measure == pytest.approx(expected, abs=1e-10)
    ice = CrystalProblem(load_system("ice/mw_cubic_8"))
    expected = math.log(6.2**3 / 8) + 1.5 * math.log(8) - 24 * math.log(2.3925)
    assert ice.log_measure == pytest.approx(expected, abs=1e-4)
