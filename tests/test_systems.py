"""The shipped systems."""

import math

import numpy as np
import pytest
import torch

from helmflow.energies.base import ParticleEnergy
from helmflow.system import load_system, shipped_systems
from helmflow.thermo import ThermodynamicState
from structures import structures

SHIPPED = {entry.name: entry for entry in shipped_systems()}
CRYSTALS = sorted(structures())
DENSITIES = ("torus", "sphere", "rotation", "product", "toy")
LATTICE_ENERGY = {  # per particle, in the system's unit: kcal/mol, epsilon, eV
    "ice": -12.37798511,
    "lennard_jones": -6.30322645,
    "silicon": -2.0 * 2.1683,
}
GAUGE = ("lattice/u1_", "lattice/su2_", "lattice/su3_", "lattice/schwinger_")
BETA = {
    "ice": 2.516094576,
    "lennard_jones": 0.5,
    "silicon": 1.0 / (8.617333262145179e-5 * 1000.0),
    "solvation": 1.0 / 3.215540,
    "metals": 1.0 / (8.617333262145179e-5 * 300.0),
}


def test_all_that_should_ship_does():
    densities = [name for name in SHIPPED if name.split("/")[0] in DENSITIES]
    assert len(densities) == 22
    gauge = [name for name in SHIPPED if name.startswith(GAUGE)]
    assert len(gauge) == 22
    scalar = [name for name in SHIPPED if name.startswith(("lattice/phi4_", "lattice/yukawa_"))]
    assert len(scalar) == 9
    others = [*scalar, "solvation/wca_125"]
    assert sorted(SHIPPED) == sorted([*CRYSTALS, *gauge, *others, *densities])
    assert list(SHIPPED).index("ice/mw_cubic_8") < list(SHIPPED).index("ice/mw_cubic_64")


@pytest.mark.parametrize("name", SHIPPED)
def test_files_are_named_after_their_system_and_give_sources(name):
    system = load_system(name)
    assert system.name == name
    assert system.path.stem == name.split("/")[1]
    assert (system.summary, system.references) == SHIPPED[name][1:]
    assert all(reference.source for reference in system.references)
    assert len(system.digest) == 64


@pytest.mark.parametrize("name", CRYSTALS)
def test_structures_are_those_of_the_script(name):
    system = load_system(name)
    lattice = structures()[name]
    positions, edges = lattice.positions(), lattice.edges
    np.testing.assert_array_equal(system.reference_positions.numpy(), positions)
    np.testing.assert_array_equal(system.cell.numpy(), np.diag(edges))
    assert system.n_particles == int(name.split("_")[-1]) == len(system.species)
    assert set(system.species) == {lattice.symbol}


@pytest.mark.parametrize("name", CRYSTALS)
def test_energy_of_the_perfect_crystal(name):
    system = load_system(name)
    energy, gradient = system.energy.energy_and_gradient(system.reference_positions[None])
    assert gradient.abs().max().item() < 2e-12
    assert system.reduced_potential(system.reference_positions[None]).item() == pytest.approx(
        system.beta * energy.item(), rel=1e-13
    )
    expected = LATTICE_ENERGY.get(name.split("/")[0])
    if expected is not None:
        assert energy.item() / system.n_particles == pytest.approx(expected, abs=6e-9)


def test_copper_is_what_ase_says():
    from ase.build import bulk
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * 3
    atoms.calc = EMT()
    system = load_system("metals/cu_emt_108")
    value = system.energy(system.reference_positions[None]).item()
    assert value == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


@pytest.mark.parametrize("name", SHIPPED)
def test_beta_is_the_published_one(name):
    system = load_system(name)
    beta = 5.0 if name.endswith("_sharp5") else BETA.get(name.split("/")[0], 1.0)
    assert system.beta == pytest.approx(beta, rel=2e-10)
    assert system.state == ThermodynamicState(system.energy, system.beta)


@pytest.mark.parametrize("name", CRYSTALS)
def test_density_is_the_published_one(name):
    system = load_system(name)
    density = system.n_particles / torch.linalg.det(system.cell).item()
    expected = {"ice": 0.033567184, "lennard_jones": 1.28}.get(name.split("/")[0])
    if expected is not None:
        assert density == pytest.approx(expected, rel=1e-12)


def test_published_values():
    headline = "helmholtz_free_energy"
    published = {
        name: [r.value for r in entry.references if r.quantity == headline]
        for name, entry in SHIPPED.items()
    }
    assert published["ice/mw_cubic_64"] == [-25.16306]
    assert published["ice/mw_hexagonal_64"] == [-25.18687, -25.18672]
    assert published["lennard_jones/fcc_500"] == [3.12262]
    assert published["lennard_jones/fcc_108"] == []
    exact = [r for r in SHIPPED["lattice/phi4_8"].references if "partition" in r.quantity]
    assert [r.value for r in exact] == [9.29136388]


def test_shipped_lattice_fields():
    system = load_system("lattice/phi4_4")
    assert (system.kind, system.n_particles, system.beta) == ("lattice_field", 16, 1.0)
    assert system.reference_positions is None
    assert system.cell is None
    assert system.species == system.thermal_wavelength == ()
    assert system.log_permutations == system.log_thermal_volume == 0.0
    x = torch.full((1, 4, 4), 0.5, dtype=torch.float64)
    assert system.reduced_potential(x).item() == pytest.approx(16 * (-4.0 / 4 + 8.0 / 16))


def test_convention_of_the_ice():
    system = load_system("ice/mw_cubic_8")
    assert system.thermal_wavelength == (2.3925,) * 8
    assert system.log_permutations == pytest.approx(math.log(math.factorial(8)))
    assert system.log_thermal_volume == pytest.approx(24 * math.log(2.3925))
    assert "Lambda = 2.3925 angstrom" in system.convention
    assert "N! Lambda^3N" in system.convention


def test_catalogue_does_not_build_energies(monkeypatch):
    def refuse(*_):
        raise RuntimeError("built an energy")

    monkeypatch.setattr(ParticleEnergy, "__init__", refuse)
    assert len(shipped_systems()) == len(SHIPPED)
