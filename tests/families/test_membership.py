"""Do samples belong to their state? Stiff molecules, of which everything is known."""

import numpy as np
import openmm
import pytest
import torch

import gaussian_pair as pair
from helmflow.energies.constant_pressure import with_boxes
from helmflow.families.two_states.membership import membership_checks
from helmflow.families.two_states.openmm_files import openmm_state

N, STIFFNESS, LENGTH, EDGE = 4, 2e5, 0.12, 12.0


def molecules(*, periodic=False):
    system = openmm.System()
    bonds = openmm.HarmonicBondForce()
    for k in range(N):
        system.addParticle(12.0)
        system.addParticle(12.0)
        bonds.addBond(2 * k, 2 * k + 1, LENGTH, STIFFNESS)
    if periodic:
        bonds.setUsesPeriodicBoundaryConditions(True)
        system.setDefaultPeriodicBoxVectors([3, 0, 0], [0, 3, 0], [0, 0, 3])
    system.addForce(bonds)
    return system


def draw(n, kelvin, seed=0):
    """Bonds of the density r^2 exp(-k (r - r0)^2 / 2 kT) in any direction, far apart."""
    rng = np.random.default_rng(seed)
    width = np.sqrt(pair.KT * kelvin / 300.0 / STIFFNESS)
    grid = np.linspace(LENGTH - 8 * width, LENGTH + 8 * width, 4001)
    chance = np.cumsum(grid**2 * np.exp(-0.5 * ((grid - LENGTH) / width) ** 2))
    r = np.interp(rng.random((n, N, 1)), chance / chance[-1], grid)
    e = rng.normal(size=(n, N, 3))
    half = 0.5 * r * e / np.linalg.norm(e, axis=-1, keepdims=True)
    centres = 1.0 + np.arange(N)[:, None] * np.array([2.5, 0.0, 0.0])
    return torch.from_numpy(np.stack([centres + half, centres - half], 2).reshape(n, 2 * N, 3))


def checks(state, *samples):
    return membership_checks((state,) * len(samples), samples)


def test_another_temperature_shows_in_stiff_bonds():
    state = openmm_state(molecules(), 300.0, platform="Reference")
    good, hot = checks(state, draw(1500, 300.0), draw(1500, 340.0))
    assert good.passed
    assert not hot.passed
    assert hot.severity == "hard"
    assert hot.value == pytest.approx(340.0 / 300.0 - 1.0, abs=0.1)


def test_a_box_that_varies_is_no_excuse():
    """Bonds across the faces of boxes that all differ."""
    state = openmm_state(molecules(periodic=True), 300.0, pressure=1.0, platform="Reference")
    samples = []
    for kelvin in (300.0, 400.0):
        edges = EDGE + np.random.default_rng(1).random((800, 1, 1))
        x = draw(800, kelvin)
        x[:, :, 1] += 0.5 * EDGE * torch.arange(2 * N).remainder(2) * 2.0
        x[:, 1::2, 1] += torch.from_numpy(edges[:, 0] - EDGE)
        samples.append(with_boxes(x, edges * np.eye(3)))
    found = checks(state, *samples)
    good, hot = (c for c in found if c.name.endswith("at their state"))
    assert good.passed
    assert not hot.passed


@pytest.mark.parametrize("edge", [0.5, 1.0])
def test_an_ideal_gas_in_a_small_box_belongs_to_it(edge):
    """A field cut off where the nearest image changes would have a surface."""
    system = openmm.System()
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.2)
    system.setDefaultPeriodicBoxVectors([edge, 0, 0], [0, edge, 0], [0, 0, edge])
    for _ in range(20):
        system.addParticle(18.0)
        force.addParticle(0.0, 0.1, 0.0)
    system.addForce(force)
    x = torch.from_numpy(np.random.default_rng(0).random((300, 20, 3)) * edge)
    (check,) = checks(openmm_state(system, 300.0, platform="Reference"), x)
    assert check.value == 0.0
