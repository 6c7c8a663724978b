import math

import pytest
import torch

from field_flows import fields, images
from helmflow.energies.phi4 import Phi4
from helmflow.energies.yukawa import Yukawa, staggered_derivative
from helmflow.errors import InputError


def energy(shape=(4, 4), g=0.3):
    return Yukawa(shape, mass_squared=-4.0, coupling=8.0, yukawa=g)


@pytest.mark.parametrize(
    ("extent", "g_phi", "log_det"),
    [
        (4, 0.1, -1.0449396097),
        (4, 0.3, -0.2555949034),
        (8, 0.1, -5.8221703121),
        (8, 0.3, -2.0039890815),
        (8, 1.0, 21.1009675377),
        (16, 0.3, -8.3587209045),
    ],
)
def test_determinant_of_a_constant_field(extent, g_phi, log_det):
    """det D = prod_k (g^2 phi^2 + sin^2 k_0 + sin^2 k_1)^(1/2), k_0 antiperiodic."""
    k = 2.0 * math.pi * torch.arange(extent, dtype=torch.float64) / extent
    square = g_phi**2 + (k + math.pi / extent).sin().square()[:, None] + k.sin().square()
    assert 0.5 * square.log().sum().item() == pytest.approx(log_det, abs=1e-9)
    shape = (extent, extent)
    phi = torch.full((1, *shape), 1.0, dtype=torch.float64)
    found = torch.linalg.slogdet(energy(shape, g_phi).operator(phi)).logabsdet
    assert found.item() == pytest.approx(log_det, abs=1e-9)


def test_derivative_is_antisymmetric_and_squares_to_the_laplacian():
    """K^2 = 1/4 sum_mu (T_mu - T_-mu)^2: staggered phases make it diagonal in momentum."""
    k = staggered_derivative((4, 6))
    assert torch.equal(k, -k.T)
    values = torch.linalg.eigvalsh(-(k @ k))
    k0 = (2.0 * torch.arange(4, dtype=torch.float64) + 1.0) * math.pi / 4
    k1 = 2.0 * torch.arange(6, dtype=torch.float64) * math.pi / 6
    expected = (k0.sin().square()[:, None] + k1.sin().square()).flatten().sort().values
    torch.testing.assert_close(values, expected, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("shape", [(4, 4), (4, 6)])
@pytest.mark.parametrize("step", [1, 2])
def test_symmetries(shape, step):
    """Translations by one site too: signs of the fermions absorb phases and boundary."""
    x, model = fields(shape), energy(shape)
    action = model(x.view(-1, *shape))
    for image in images(x, shape, step, rotated=False):
        moved = model(image.view(-1, *shape))
        torch.testing.assert_close(moved, action, rtol=1e-11, atol=1e-11)
    turned = model(x.view(-1, *shape).transpose(1, 2)) if shape[0] == shape[1] else None
    assert turned is None or not torch.allclose(turned, action)


def test_determinant_is_even_in_the_field():
    """D(-phi) = -D(phi)^T in an even number of dimensions."""
    x, model = fields((4, 4)).view(-1, 4, 4), energy()
    det = torch.linalg.det(model.operator(x))
    torch.testing.assert_close(torch.linalg.det(model.operator(-x)), det, rtol=1e-11, atol=0.0)


def test_gradient_is_that_of_autograd():
    x, model = fields((4, 6)).view(-1, 4, 6).requires_grad_(), energy((4, 6))
    value = model(x)
    (expected,) = torch.autograd.grad(value.sum(), x)
    action, gradient = model.energy_and_gradient(x)
    torch.testing.assert_close(action, value.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)


def test_without_coupling_it_is_phi4_and_a_constant():
    x = fields((4, 4)).view(-1, 4, 4)
    difference = energy(g=0.0)(x) - Phi4((4, 4), mass_squared=-4.0, coupling=8.0)(x)
    free = 2.0 * torch.linalg.slogdet(staggered_derivative((4, 4))).logabsdet
    torch.testing.assert_close(difference, -free.expand(len(x)), rtol=1e-11, atol=1e-11)


def test_condensate_is_the_response_to_the_coupling():
    """d ln det D / dg = sum_x phi_x (D^-1)_xx."""
    x, h = fields((4, 4)).view(-1, 4, 4), 1e-5
    ends = [-energy(g=0.3 + s * h)(x) / 2.0 for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2.0 * h * 16)
    torch.testing.assert_close(energy().condensate(x), slope, rtol=1e-7, atol=1e-7)


def test_odd_extents_are_refused():
    with pytest.raises(InputError, match=r"field.shape: expected even extents"):
        energy((4, 5))
