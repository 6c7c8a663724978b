import openmm
import pytest
import torch

from helmflow.errors import InputError
from helmflow.families.two_states.openmm_files import Sampled, openmm_state
from helmflow.families.two_states.openmm_maps import choose_map, molecules, surroundings
from helmflow.families.two_states.solvent_path import (
    linear_slopes,
    openmm_energy,
    parameter_slopes,
)
from helmflow.training.periodic_fit import PeriodicFit
from helmflow.training.solvent_fit import SolventFit
from openmm_systems import four_site_water

EDGE, N = 2.0, 27


def fluid(sigma=0.34, epsilon=1.0):
    """A Lennard-Jones fluid whose first particle has its own parameters."""
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors([EDGE, 0, 0], [0, EDGE, 0], [0, 0, EDGE])
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.9)
    for i in range(N):
        made.addParticle(39.9)
        force.addParticle(0.0, sigma if i == 0 else 0.34, epsilon)
    made.addForce(force)
    return made


def positions(batch=3):
    axis = (torch.arange(3, dtype=torch.float64) + 0.5) * EDGE / 3
    noise = torch.randn((batch, N, 3), generator=torch.Generator().manual_seed(0)).double()
    return torch.cartesian_prod(axis, axis, axis) + 0.04 * noise


def states(**change):
    return [openmm_state(s, 150.0, platform="Reference") for s in (fluid(), fluid(**change))]


def test_slopes_are_derivatives_along_the_parameters():
    a, b = states(sigma=0.40)
    slopes, x = parameter_slopes(a, b), positions()
    h = 1e-4
    for lam, sigma in ((0.0, 0.34), (1.0, 0.40)):
        low, high = (
            openmm_state(fluid(sigma + s * h * 0.06), 150.0, platform="Reference") for s in (-1, 1)
        )
        expected = (high.reduced_potential(x) - low.reduced_potential(x)) / (2.0 * h)
        slope, gradient = slopes(x, lam)
        torch.testing.assert_close(slope, expected, rtol=2e-3, atol=1e-3)
        own = (a, b)[round(lam)]
        torch.testing.assert_close(gradient, own.beta * own.energy.energy_and_gradient(x)[1])


def test_slopes_of_a_linear_path():
    a, b = states(sigma=0.40)
    x = positions()
    for lam, own in ((0.0, a), (1.0, b)):
        slope, gradient = linear_slopes(a, b)(x, lam)
        torch.testing.assert_close(slope, b.reduced_potential(x) - a.reduced_potential(x))
        torch.testing.assert_close(gradient, own.beta * own.energy.energy_and_gradient(x)[1])


def test_what_changes_is_the_solute():
    around = surroundings(*states(sigma=0.40), [])
    assert list(around.solute) == [0]
    assert [list(m) for m in around.molecules] == [[i] for i in range(1, N)]
    bonded = surroundings(*states(sigma=0.40), [(0, 1), (2, 3)])
    assert list(bonded.solute) == [0, 1]
    assert list(bonded.molecules[0]) == [2, 3]


def test_a_solute_may_be_named():
    both = states(sigma=0.40)
    assert list(surroundings(*both, [], "3,5-6").solute) == [3, 5, 6]
    assert not surroundings(*both, [], "origin").solute
    for text in ("x", "0-", "99", ",", "-3"):
        with pytest.raises(InputError, match="solute: expected indices such as"):
            surroundings(*both, [], text)


def test_when_everything_changes_there_is_no_solute():
    with pytest.raises(InputError, match="solute: expected part of the particles"):
        surroundings(*states(epsilon=1.1), [])


def test_virtual_sites_belong_to_their_molecule():
    system, _, _ = four_site_water()
    energy = openmm_energy(openmm_state(system, 300.0, platform="Reference"))
    assert molecules(energy, [(0, 1), (0, 2)]) == [[0, 1, 2, 3]]


def test_choices_on_the_command_line():
    a, b = (Sampled(state, positions(8), (), ()) for state in states(sigma=0.40))
    kinds = {"transport": SolventFit, "periodic": PeriodicFit, "refined": PeriodicFit}
    for choice, kind in kinds.items():
        fit = choose_map(choice, a, b, 7)
        assert isinstance(fit, kind)
        if isinstance(fit, PeriodicFit):
            assert fit.plan.steps == 7
            assert (fit.first is not None) == (choice == "refined")
    assert choose_map("auto", a, b, 7) is None
    with pytest.raises(InputError, match="map: expected one of none, scaling, transport"):
        choose_map("molecule", a, b, 7)
    b.state.energy.system.setDefaultPeriodicBoxVectors([2.1, 0, 0], [0, 2.1, 0], [0, 0, 2.1])
    with pytest.raises(InputError, match="map: expected scaling for two boxes"):
        choose_map("transport", a, b, 7)


def test_slopes_of_a_particle_that_grows_from_nothing():
    """A depth of zero has no neighbour on the other side."""

    def ghost(epsilon):
        made = fluid()
        made.getForces()[0].setParticleParameters(0, 0.0, 0.34, epsilon)
        return openmm_state(made, 150.0, platform="Reference")

    a, b, x = ghost(0.0), ghost(1.0), positions()
    up, down = parameter_slopes(a, b), parameter_slopes(b, a)
    assert torch.isfinite(up(x, 0.0)[0]).all()
    torch.testing.assert_close(up(x, 1.0)[0], -down(x, 0.0)[0])
