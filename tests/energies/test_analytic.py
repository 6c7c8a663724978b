import math

import pytest
import torch

from double_wells import DoubleWells
from helmflow.energies.analytic import HarmonicOscillators
from helmflow.errors import InputError


def test_oscillators_free_energy_by_quadrature():
    stiffness = torch.tensor([0.3, 5.0], dtype=torch.float64)
    energy = HarmonicOscillators(stiffness)
    nodes = torch.linspace(-20, 20, 1001, dtype=torch.float64)
    x = torch.cartesian_prod(nodes, nodes)
    found = -(torch.logsumexp(-0.7 * energy(x), 0).item() + 2.0 * math.log(0.04))
    assert found == pytest.approx(energy.free_energy(0.7), abs=1e-10)


@pytest.mark.parametrize(("barrier", "tilt", "beta"), [(2.0, 0.7, 1.3), (30.0, -3.0, 1.0)])
def test_double_wells_free_energy_by_another_quadrature(barrier, tilt, beta):
    from scipy.integrate import quad

    energy = DoubleWells(3, barrier=barrier, tilt=tilt)

    def weight(x):
        return math.exp(-beta * (barrier * (x * x - 1.0) ** 2 + tilt * x))

    integral, _ = quad(weight, -6.0, 6.0, points=[-1.0, 0.0, 1.0], epsabs=0.0, epsrel=1e-12)
    assert energy.free_energy(beta) == pytest.approx(-3.0 * math.log(integral), abs=1e-10)


def test_double_wells_in_the_harmonic_limit():
    """Two wells of stiffness 8 h; the first anharmonic correction is of order 1/(beta h)."""
    energy = DoubleWells(1, barrier=1e4)
    harmonic = HarmonicOscillators(torch.tensor([8e4], dtype=torch.float64)).free_energy(1.0)
    assert energy.free_energy(1.0) == pytest.approx(harmonic - math.log(2.0), abs=1e-4)


def test_gradients_are_finite_differences():
    for energy in (
        HarmonicOscillators(torch.tensor([1.0, 3.0], dtype=torch.float64)),
        DoubleWells(2, barrier=2.0, tilt=0.3),
    ):
        x = torch.tensor([[0.3, -1.1], [1.7, 0.4]], dtype=torch.float64)
        _, gradient = energy.energy_and_gradient(x)
        for i, step in enumerate(torch.eye(2, dtype=torch.float64) * 1e-6):
            slope = (energy(x + step) - energy(x - step)) / 2e-6
            torch.testing.assert_close(gradient[:, i], slope, rtol=1e-8, atol=1e-8)


def test_what_has_no_free_energy_is_refused():
    with pytest.raises(InputError, match="stiffness"):
        HarmonicOscillators(torch.tensor([1.0, 0.0], dtype=torch.float64))
    with pytest.raises(InputError, match="barrier"):
        DoubleWells(1, barrier=0.0)
