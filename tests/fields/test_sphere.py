import pytest
import torch

from helmflow.bijectors.base import Inverse
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.errors import InputError
from helmflow.families.growth.growth_path import record
from helmflow.fields.sphere import SphereField
from small_solvent import BOX, path, positions


def field():
    return SphereField(BOX, (1.2, 1.4))


def weights(size, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(size, generator=generator, dtype=torch.float64)


def test_the_field_is_periodic_and_permutes_with_the_particles():
    made, x = field(), positions(3)
    c = weights(made.size)
    velocity, divergence = made.velocity(x, 0.0, c)
    moved = x.clone()
    moved[:, 2, 1] += BOX
    moved[:, 5] -= 2.0 * BOX
    again, same = made.velocity(moved, 0.0, c)
    torch.testing.assert_close(again, velocity, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(same, divergence, rtol=1e-8, atol=1e-8)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    again, same = made.velocity(x[:, order], 0.0, c)
    torch.testing.assert_close(again, velocity[:, order], rtol=1e-9, atol=1e-9)
    rotated, _ = made.velocity(x[:, :, [1, 0, 2]], 0.0, c)  # a symmetry of the cube
    torch.testing.assert_close(rotated, velocity[:, :, [1, 0, 2]], rtol=1e-9, atol=1e-9)


def test_mean_of_stein_functions_is_zero_in_equilibrium():
    made, growth = field(), path()
    chains = growth.chains((1.0,), (60,), torch.Generator().manual_seed(3))
    x = record(chains, 40, 3)
    flat = x.flatten(0, 1)
    ones = torch.ones(len(flat), dtype=torch.float64)
    _, _, gradient = growth.evaluate(flat, ones)
    stein = made.stein(flat, gradient, 1.0).reshape(made.size, 40, 60).mean(1)
    scale = stein.std(1) / 60**0.5
    active = scale > 1e-3
    z = stein.mean(1)[active] / scale[active]
    assert int(active.sum()) > 150
    assert z.abs().max() < 5.5
    without_forces = made.stein(flat, 0.0 * gradient, 1.0).reshape(made.size, 40, 60)
    wrong = without_forces.mean((1, 2))[active] / scale[active]
    assert wrong.abs().max() > 20.0  # the test would notice


def growth_map(scale=0.002, n_steps=8):
    made = field()
    c = torch.stack([weights(made.size, seed, scale) for seed in (1, 2, 3)])
    return FittedFlow(made, c, n_steps=n_steps)


def test_log_determinant_of_the_map_by_autodiff_free_differences():
    bijector, x = growth_map(), positions(1, n=5)
    y, log_det = bijector.forward(x)
    h = 1e-5
    steps = h * torch.eye(15, dtype=torch.float64).reshape(15, 5, 3)
    up, down = bijector.forward(x + steps)[0], bijector.forward(x - steps)[0]
    jacobian = ((up - down) / (2.0 * h)).reshape(15, 15)
    assert (y - x).abs().max() > 1e-3
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(log_det[0], expected, rtol=1e-4, atol=1e-6)


def test_inverse_and_order_of_the_integrator():
    x = positions(4)
    errors = []
    for n_steps in (4, 8):
        bijector = growth_map(0.003, n_steps)
        y, log_det = bijector.forward(x)
        back, minus = Inverse(bijector).forward(y)
        errors.append(float((back - x).abs().max()))
        torch.testing.assert_close(minus, -log_det, rtol=0.0, atol=1e-2)
    assert errors[1] < errors[0] / 8.0
    assert errors[1] < 1e-5


def test_mistakes():
    made = field()
    with pytest.raises(InputError, match="coefficients"):
        FittedFlow(made, torch.zeros(3, 5), n_steps=1)
    with pytest.raises(InputError, match="n_steps"):
        FittedFlow(made, torch.zeros(3, made.size), n_steps=0)
