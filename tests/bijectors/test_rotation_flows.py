"""Flows of rotations: round trips, determinants, one density for both quaternions, poles."""

import math

import pytest
import torch

from helmflow.bijectors.base import Chain, Inverse
from helmflow.bijectors.sphere_flows import RotationAutoregressive, SphereRotation
from helmflow.bijectors.torus_flows import circle_map
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.errors import InputError
from helmflow.manifolds.rotations import Rotations
from helmflow.nets.mlp import Conditioner
from helmflow.streams import stream

SO3 = Rotations()
UP, ASIDE = [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]


def layer(strength=0.5, seed=0, **options):
    f = RotationAutoregressive(3, circle_map(3), Conditioner([8], **options))
    generator = stream(seed, "shake")
    with torch.no_grad():
        for p in f.parameters():
            p += strength * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return f


def two_layers():
    g = stream(1, "turn")
    return Chain([SphereRotation(3, g), layer(), SphereRotation(3, g), layer(seed=1)])


def test_a_new_layer_is_the_identity():
    x = SO3.uniform(50, stream(2, "x"))
    y, log_det = RotationAutoregressive(3, circle_map(3), Conditioner([8])).forward(x)
    assert SO3.distance(x, y).max() < 1e-12
    assert log_det.abs().max() < 1e-13


@pytest.mark.parametrize("make", [layer, two_layers])
def test_round_trip_and_determinant(make):
    f = make()
    x = SO3.uniform(60, stream(3, "x"))
    y, log_det = f.forward(x)
    SO3.require(y.detach())
    again, log_inverse = f.inverse(y)
    assert SO3.distance(again, x).max() < 1e-10
    assert (log_det + log_inverse).abs().max() < 1e-9
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: f.forward(z[None])[0][0]))(x)
    jacobian = jacobian @ SO3.cover.tangent_basis(x)
    expected = 0.5 * torch.linalg.slogdet(jacobian.mT @ jacobian).logabsdet
    assert (expected - log_det).abs().max() < 1e-9


def test_both_quaternions_go_to_one_rotation():
    f = two_layers()
    x = SO3.uniform(60, stream(4, "x"))
    (y, log_det), (other, same) = f.forward(x), f.forward(-x)
    assert SO3.distance(y, other).max() < 1e-12
    assert (log_det - same).abs().max() < 1e-11
    flow = Flow(Uniform(SO3), f)
    assert (flow.log_prob(x) - flow.log_prob(-x)).abs().max() < 1e-11


def test_the_density_integrates_to_one():
    x = SO3.uniform(40_000, stream(8, "x"))
    with torch.no_grad():
        ratio = Flow(Uniform(SO3), Inverse(layer())).log_prob(x).exp() * math.pi**2
    assert 0.3 < ratio.std() < 20.0
    assert abs(ratio.mean() - 1.0) < 5.0 * ratio.std() / 200.0


@pytest.mark.parametrize("pole", [UP, ASIDE])
def test_poles_are_harmless(pole):
    """Where an angle has no meaning values and slopes are finite, and the density continuous."""
    f = layer()
    start = torch.tensor([pole], dtype=torch.float64)
    away = 1e-7 * torch.randn(50, 4, generator=stream(5, "away"), dtype=torch.float64)
    x = torch.cat((start, SO3.exp(start, SO3.tangent(start, away)))).requires_grad_()
    _, log_det = f.forward(x)
    assert (log_det - log_det[0]).abs().max() < 1e-5
    (grown,) = torch.autograd.grad(log_det.sum(), x)
    assert torch.isfinite(grown).all()


def test_given_numbers_are_seen():
    f = layer(n_given=2)
    x, given = SO3.uniform(4, stream(6, "x")), torch.tensor([[0.0, 1.0], [2.0, 3.0]] * 2).double()
    y, log_det = f.forward(x, given)
    back, log_inverse = f.inverse(y, given)
    assert SO3.distance(back, x).max() < 1e-10
    assert (log_det + log_inverse).abs().max() < 1e-10
    assert SO3.distance(f.forward(x, 0.5 * given)[0], y).max() > 1e-3


def test_mistakes():
    with pytest.raises(InputError, match="dim"):
        RotationAutoregressive(2, circle_map(3), Conditioner([8]))
    with pytest.raises(InputError, match="given"):
        layer(n_given=2).forward(SO3.uniform(3, stream(7, "x")))
    with pytest.raises(InputError, match="shape"):
        layer().forward(torch.zeros(3, 5))
    with pytest.raises(InputError, match="unit vectors"):
        Flow(Uniform(SO3), layer()).log_prob(torch.full((1, 4), math.sqrt(0.3)))
