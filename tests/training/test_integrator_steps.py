"""The choice of integration steps: one measure of the bias, on the same samples throughout."""

import pytest
import torch

from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.bijectors.sine_flow import SineFlow
from helmflow.densities.normal import DiagonalNormal
from helmflow.errors import InputError
from helmflow.fields.sine import SineField
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.streams import stream
from helmflow.training.integrator_steps import enough_steps, step_bias, works_on

STEPS = (1, 2, 4, 8, 16)
BASE = DiagonalNormal(torch.zeros(16).double(), torch.ones(16).double())


def flow(n_steps=1):
    field = SineField.on((4, 4), KernelOrbits(2), 2, 1.0)
    noise = torch.randn((2, field.size), generator=stream(0, "c"), dtype=torch.float64)
    return FittedFlow(field, 0.05 * noise, n_steps=n_steps)


@pytest.fixture
def works():
    return works_on(BASE, lambda x: x.square().sum(1), 64, stream(1, "z"))


def test_the_bias_is_the_mean_size_of_the_change_on_doubling(works):
    coarse, fine = works(flow(2)), works(flow(4))
    assert step_bias(flow(2), works) == float((coarse - fine).abs().mean())
    assert step_bias(flow(2), works) > 10.0 * step_bias(flow(8), works)


def test_changes_that_cancel_are_a_bias(works):
    size = torch.linspace(-1.0, 1.0, 64, dtype=torch.float64)
    assert step_bias(flow(), lambda f: size * f.n_steps) == float(size.abs().mean())


def test_the_first_number_of_steps_that_is_enough(works):
    biases = [step_bias(flow(n), works) for n in STEPS]
    assert biases == sorted(biases, reverse=True)
    found = enough_steps(flow(), works, STEPS, 10.0 * 1.01 * biases[2])
    assert found.n_steps == 4
    assert enough_steps(flow(), works, STEPS, 0.0).n_steps == STEPS[-1]


def test_another_number_of_steps_is_another_flow_with_the_same_parameters():
    first = SineFlow((4, 4), KernelOrbits(2), n_steps=2)
    other = first.with_steps(5)
    assert (first.n_steps, other.n_steps) == (2, 5)
    assert other.frequencies is first.frequencies
    other.coefficients = torch.nn.Parameter(first.coefficients.detach() + 1.0)
    assert not first.coefficients.any()
    with pytest.raises(InputError, match="n_steps"):
        first.with_steps(0)
