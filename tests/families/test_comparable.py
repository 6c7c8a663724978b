"""Which OpenMM states can be compared: rigid dimers held together, parameters of a Context."""

import math

import numpy as np
import openmm
import pytest
import torch

import gaussian_pair as pair
from helmflow.errors import InputError
from helmflow.families.two_states.multistate import multistate
from helmflow.families.two_states.openmm_files import openmm_state
from helmflow.families.two_states.shards import work_shard
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.training.map_fit import GaussianFit

LENGTH = 0.1


def dimers(stiffness, length=LENGTH):
    """Two rigid dimers, an atom of one bound to an atom of the other: k r^2 / 2."""
    system = openmm.System()
    for _ in range(4):
        system.addParticle(12.0)
    for k in (0, 2):
        system.addConstraint(k, k + 1, length)
    spring = openmm.HarmonicBondForce()
    spring.addBond(1, 2, 0.0, stiffness)
    system.addForce(spring)
    return openmm_state(system, 300.0, platform="Reference")


def draw(stiffness, n=800, seed=0, kelvin=300.0):
    """Exact: any directions of the dimers, a normal vector of the spring."""
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(n, 2, 3))
    half = LENGTH * e / np.linalg.norm(e, axis=-1, keepdims=True)
    spring = math.sqrt(pair.KT * kelvin / 300.0 / stiffness) * rng.normal(size=(n, 3))
    inner = rng.normal(size=(1, 3)) + np.zeros((n, 3))
    far = inner + spring
    return torch.from_numpy(np.stack([inner + half[:, 0], inner, far, far + half[:, 1]], 1))


def test_constraints_that_both_states_have():
    a, b = dimers(1000.0), dimers(1500.0)
    found = targeted_fep(a, b, draw(1000.0), draw(1500.0, seed=1))
    assert found.result.grade == "A", found.result.reason
    assert abs(found.plain.value - 1.5 * math.log(1.5)) < 4.0 * found.plain.stderr


def test_samples_on_a_surface_must_have_the_temperature_of_their_state():
    a, b = dimers(1000.0), dimers(1500.0)
    found = targeted_fep(a, b, draw(1000.0, n=2000, kelvin=400.0), draw(1500.0, seed=1))
    assert found.result.grade == "F"
    assert "samples of A are at their state" in found.result.reason


@pytest.mark.parametrize(
    ("other", "given", "message"),
    [
        (dimers(1500.0, length=0.11), None, "system: expected one set of constraints"),
        (dimers(1500.0), GaussianFit(), "map: expected none for a System with constraints"),
    ],
)
def test_surfaces_that_differ_and_maps_off_them_are_refused(other, given, message):
    for compare in (targeted_fep, lambda *x, **k: work_shard(*x, part=(1, 2), **k)):
        with pytest.raises(InputError, match=message):
            compare(dimers(1000.0), other, draw(1000.0, 50), draw(1500.0, 50), map=given)


def in_a_context(lam, name="lam"):
    system = openmm.System()
    system.addParticle(12.0)
    force = openmm.CustomExternalForce(f"0.5*100*(1+{name})*(x*x+y*y+z*z)")
    force.addGlobalParameter(name, lam)
    force.addParticle(0, [])
    system.addForce(force)
    return openmm_state(system, 300.0, platform="Reference")


def wells(lam, n=400, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(
        math.sqrt(pair.KT / (100.0 * (1.0 + lam))) * rng.normal(size=(n, 1, 3))
    )


def test_a_parameter_of_the_context_belongs_into_the_system():
    """One System for two values: u_B - u_A is zero, whatever the trajectories were."""
    same, other = in_a_context(0.0), in_a_context(0.3)
    x = wells(0.0), wells(0.3, seed=1)
    with pytest.raises(InputError, match=r"given twice.*setGlobalParameterDefaultValue.*got lam"):
        targeted_fep(same, in_a_context(0.0), *x)
    with pytest.raises(InputError, match="given twice"):
        multistate((same, other, in_a_context(0.0)), (*x, x[0]))
    found = targeted_fep(same, other, *x)
    assert abs(found.plain.value - 1.5 * math.log(1.3)) < 4.0 * found.plain.stderr


def test_one_energy_has_one_distribution():
    """Where nothing has a name: samples tell that they are of two states."""
    u = lambda x: 0.5 * x.square().sum((1, 2))  # noqa: E731
    x, y = (torch.randn(500, 4, 3, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    name = "one energy, one distribution"
    for factor, grade in ((1.0, "A"), (1.25, "F")):
        for found in (targeted_fep(u, u, x, factor * y), multistate((u, u), (x, factor * y))):
            (check,) = (c for c in found.result.checks if c.name == name)
            assert check.passed == (grade == "A")
            assert found.result.grade == grade
