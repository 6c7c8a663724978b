"""Derivatives by correlated ensembles, against the transfer matrix."""

import pytest
import torch

from assertions import assert_consistent
from helmflow.densities.gaussian import Gaussian
from helmflow.energies.phi4 import Phi4
from helmflow.errors import InputError
from helmflow.families.field_response import field_response
from helmflow.families.path.base import build_base
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.samplers.hmc import InterpolatedHMC
from helmflow.settings import Settings
from helmflow.streams import stream
from helmflow.system import load_system
from phi4_exact import free_energy_slope, log_z, phi_squared, phi_squared_slope

SHAPE, COUPLING = (4, 4), 8.0


def family(coupling):
    energy = Phi4(SHAPE, mass_squared=-4.0, coupling=coupling)

    def value_and_gradient(x):
        action, gradient = energy.energy_and_gradient(x.view(-1, *SHAPE))
        return action, gradient.flatten(1)

    return value_and_gradient


def phi_2(x):
    return x.square().mean(1)


@pytest.fixture(scope="module")
def samples():
    """6000 independent fields: the ends of as many chains."""
    base, _ = build_base(LatticeProblem(load_system("lattice/phi4_4")), Settings())
    assert isinstance(base, Gaussian)
    generator = stream(0, "chains")
    hmc = InterpolatedHMC(base, family(COUPLING), torch.ones(6000, dtype=torch.float64))
    state = hmc.init(base.noise(6000, generator))
    for _ in range(12):
        state, _ = hmc.step(state, 4, generator)
    return state.u


def test_the_transfer_matrix_reproduces_the_reference_values():
    assert log_z(4, -4.0, COUPLING, 6) == pytest.approx(2.40513896, abs=2e-6)
    assert phi_squared(4, -4.0, COUPLING, 6) == pytest.approx(0.147746, abs=1e-6)


def test_derivatives_are_exact_and_sharp(samples):
    found = field_response(samples, SHAPE, family, COUPLING, phi_2, delta=0.3)
    slope = phi_squared_slope(4, -4.0, COUPLING, 5)
    force = free_energy_slope(4, -4.0, COUPLING, 5)
    for estimate in (found.transported, found.reweighted):
        assert_consistent(estimate.value, estimate.stderr, slope, resolve=0.003)
    for estimate in (found.free_energy, found.free_energy_plain):
        assert_consistent(estimate.value, estimate.stderr, force, resolve=0.05)
    assert found.gain_over_independent > 50.0
    assert found.gain_over_reweighting > 4.0
    assert found.free_energy.stderr < 0.5 * found.free_energy_plain.stderr


def test_the_predicted_error_of_independent_ensembles(samples):
    """It is that of <phi^2> at two couplings, each from as many samples."""
    found = field_response(samples, SHAPE, family, COUPLING, phi_2, delta=0.5)
    n = int(0.75 * len(samples))
    expected = phi_2(samples).std().item() * (2.0 / n) ** 0.5 / (2 * 0.5)
    assert found.independent_stderr == pytest.approx(expected, rel=0.1)


def test_bad_input(samples):
    with pytest.raises(InputError, match="delta: expected a positive step"):
        field_response(samples, SHAPE, family, COUPLING, phi_2, delta=0.0)
    with pytest.raises(InputError, match="x: expected at least 100 samples"):
        field_response(samples[:50], SHAPE, family, COUPLING, phi_2, delta=0.1)
