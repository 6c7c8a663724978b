import openmm
import pytest
import torch

from helmflow.energies.openmm import OpenMMEnergy
from helmflow.energies.openmm_path import changed_particles, interpolated_system
from helmflow.errors import InputError


def system(charge=0.0, sigma=0.3, length=0.12, height=1.0, periodicity=2):
    """Five particles, a molecule of four and an atom, with every kind of term."""
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors([3, 0, 0], [0, 3, 0], [0, 0, 3])
    nonbonded = openmm.NonbondedForce()
    for i in range(5):
        made.addParticle(12.0)
        first = (charge, sigma) if i == 4 else (0.1, 0.25)
        nonbonded.addParticle(*first, 0.5)
    nonbonded.addException(0, 1, 0.0, 0.3, 0.0)
    bonds, torsions = openmm.HarmonicBondForce(), openmm.PeriodicTorsionForce()
    bonds.addBond(0, 1, length, 1000.0)
    torsions.addTorsion(0, 1, 2, 3, periodicity, 0.0, 3.0)
    wall = openmm.CustomExternalForce("height*k*x^2")
    wall.addGlobalParameter("height", height)
    wall.addPerParticleParameter("k")
    wall.addParticle(2, [5.0])
    for force in (nonbonded, bonds, torsions, wall):
        made.addForce(force)
    return made


def energies(made):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 5, 3, generator=generator, dtype=torch.float64)
    return OpenMMEnergy(made, platform="Reference")(x)


CHANGES = {
    "charge and radius": ({"charge": 0.4, "sigma": 0.35}, [4]),
    "bond": ({"length": 0.14}, [0, 1]),
    "global parameter": ({"height": 3.0}, []),
    "all": ({"charge": 0.4, "length": 0.14, "height": 3.0}, [0, 1, 4]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_between_two_systems(name):
    change, particles = CHANGES[name]
    a, b = system(), system(**change)
    assert changed_particles(a, b) == particles
    torch.testing.assert_close(energies(interpolated_system(a, b, 0.0)), energies(a))
    torch.testing.assert_close(energies(interpolated_system(a, b, 1.0)), energies(b))
    defaults = {"charge": 0.0, "sigma": 0.3, "length": 0.12, "height": 1.0}
    middle = {k: 0.75 * defaults[k] + 0.25 * v for k, v in change.items()}
    between = energies(interpolated_system(a, b, 0.25))
    torch.testing.assert_close(between, energies(system(**middle)))


def other_expression():
    made = system()
    wall = openmm.CustomExternalForce("k*x^4")
    wall.addPerParticleParameter("k")
    wall.addGlobalParameter("height", 1.0)
    wall.addParticle(2, [5.0])
    made.removeForce(3)
    made.addForce(wall)
    return made


def one_force_less():
    made = system()
    made.removeForce(1)
    return made


@pytest.mark.parametrize(
    "other",
    [lambda: system(periodicity=3), other_expression, one_force_less],
    ids=["periodicity", "expression", "forces"],
)
def test_what_has_nothing_in_between(other):
    with pytest.raises(InputError, match="system-b: expected the forces and terms of system-a"):
        interpolated_system(system(), other(), 0.5)
