import math

import pytest
import torch

from field_flows import fields, free_field
from helmflow.densities.free_field import FreeField
from helmflow.energies.phi4 import Phi4
from helmflow.errors import InputError
from helmflow.estimators.reweighting import kish_ess
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.streams import stream


def momenta(shape):
    hat = [2.0 * torch.sin(math.pi * torch.arange(n, dtype=torch.float64) / n) for n in shape]
    return hat[0][:, None].square() + hat[1].square()


@pytest.mark.parametrize("shape", [(4, 4), (4, 6), (3, 5)])
def test_log_prob_is_that_of_the_dense_gaussian(shape):
    density = free_field(shape)
    eye = torch.eye(shape[0] * shape[1], dtype=torch.float64)
    precision = -density.score(eye)
    normal = torch.distributions.MultivariateNormal(0 * eye[0], precision_matrix=precision)
    x = fields(shape)
    torch.testing.assert_close(density.log_prob(x), normal.log_prob(x), rtol=1e-11, atol=1e-11)


def test_samples_have_the_density_they_claim():
    density = free_field((4, 6))
    x, log_p = density.sample_and_log_prob(7, stream(3, "draws"))
    torch.testing.assert_close(density.log_prob(x), log_p, rtol=1e-12, atol=1e-12)


def test_score_is_the_gradient():
    density, x = free_field((4, 4)), fields((4, 4)).requires_grad_()
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), x)
    torch.testing.assert_close(density.score(x.detach()), gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("extent", "mass_squared", "log_z"),
    [(4, 1.0, -2.8581318146), (6, 1.0, -6.5309938862), (8, 0.1, -2.2555433393)],
)
def test_exact_sampler_of_the_free_field(extent, mass_squared, log_z):
    """phi^4 without coupling: all weights equal Z = prod_k (pi / lambda_k)^(1/2)."""
    shape = (extent, extent)
    density = FreeField(shape, KernelOrbits(extent // 2)).requires_grad_(False)
    density.set_spectrum(2.0 * (mass_squared + momenta(shape)))
    x, log_q = density.sample_and_log_prob(50, stream(4, "draws"))
    action = Phi4(shape, mass_squared=mass_squared, coupling=0.0)(x.view(-1, *shape))
    log_w = -action - log_q
    assert kish_ess(log_w) == pytest.approx(50.0, abs=1e-8)
    assert log_w.mean().item() == pytest.approx(log_z, abs=1e-9)


def test_weights_serve_other_extents():
    """A spectrum fitted at L = 8 continues between its momenta: nearly that of L = 16."""
    small, large = (FreeField((n, n), KernelOrbits(4)) for n in (8, 16))
    small.set_spectrum(2.0 * (1.0 + momenta((8, 8))))
    large.load_state_dict(small.state_dict())
    found = large.log_spectrum().exp()
    torch.testing.assert_close(found, 2.0 * (1.0 + momenta((16, 16))), rtol=0.05, atol=0.0)
    shared = found[::2, ::2]
    torch.testing.assert_close(shared, 2.0 * (1.0 + momenta((8, 8))), rtol=1e-10, atol=0.0)


def test_a_spectrum_is_positive():
    with pytest.raises(InputError, match="spectrum: expected positive numbers"):
        FreeField((4, 4), KernelOrbits(2)).set_spectrum(momenta((4, 4)))
