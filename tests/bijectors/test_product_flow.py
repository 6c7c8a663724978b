"""Flows on products of tori, spheres and lines: integrals, seams, mistakes."""

import math

import pytest
import torch

from bijector_cases import SPLINE, nets, product
from helmflow.bijectors.conjugated import Part
from helmflow.bijectors.product_flow import LineAutoregressive, ProductAutoregressive
from helmflow.bijectors.sphere_flows import SphereRotation
from helmflow.bijectors.torus_flows import TorusAutoregressive, TorusFrame
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import UniformAndNormal
from helmflow.errors import InputError
from helmflow.manifolds.product import Product, parse_manifold
from helmflow.nets.mlp import Conditioner
from helmflow.streams import stream

NAMES = ["T1 x S2 x R1", "R2 x S3 x T2", "S2 x S2", "T3 x R1", "R3 x SO3", "SO3 x S1"]


def make_flow(name, strength=0.3):
    return Flow(UniformAndNormal(parse_manifold(name)), product(name, strength))


@pytest.mark.parametrize("name", NAMES)
def test_density_integrates_to_one(name):
    """Importance weights of the base under the flow have mean one."""
    flow = make_flow(name, 0.1)
    n = 20_000
    x, log_p = flow.base.sample_and_log_prob(n, stream(2, "x"))
    with torch.no_grad():
        ratio = (flow.log_prob(x) - log_p).exp()
    assert 0.05 < ratio.std() < 5.0
    assert abs(ratio.mean() - 1.0) < 5.0 * ratio.std() / math.sqrt(n)


def test_density_is_continuous_across_the_seam():
    flow = make_flow("T1 x S2 x R1")
    x, _ = flow.base.sample_and_log_prob(30, stream(3, "x"))
    low, high = x.clone(), x.clone()
    low[:, 0], high[:, 0] = 1e-9, 2.0 * math.pi - 1e-9
    assert (flow.log_prob(low) - flow.log_prob(high)).abs().max() < 1e-6


def test_rotations_of_a_factor():
    manifold = parse_manifold("T1 x S2")
    f = Part(SphereRotation(2), torch.arange(1, 4))
    x, _ = UniformAndNormal(manifold).sample_and_log_prob(5, stream(4, "x"))
    y, log_det = f.forward(x)
    assert torch.equal(y[:, 0], x[:, 0])
    manifold.require(y.detach())
    assert (log_det == 0).all()


def test_other_angles_of_a_chain():
    sums = torch.ones(4, 4).tril()
    f = TorusFrame(sums)
    x = torch.rand(20, 4, dtype=torch.float64, generator=stream(5, "x")) * 6.28
    y, log_det = f.forward(x)
    assert (torch.cos(y) - torch.cos(x.cumsum(-1))).abs().max() < 1e-13
    assert (f.inverse(y)[0] - x).abs().max() < 1e-13
    assert (log_det == 0).all()


def test_base_of_a_product():
    base = UniformAndNormal(parse_manifold("T1 x S2 x R1"))
    x, log_p = base.sample_and_log_prob(3, stream(6, "x"))
    constant = math.log(2 * math.pi) + math.log(4 * math.pi) + 0.5 * math.log(2 * math.pi)
    assert (log_p + constant + 0.5 * x[:, 4].square()).abs().max() < 1e-14
    assert torch.equal(base.log_prob(x), log_p)


def test_mistakes():
    manifold = parse_manifold("T1 x S2")
    with pytest.raises(InputError, match="order"):
        ProductAutoregressive(manifold, SPLINE, nets(), order=[0, 0])
    with pytest.raises(InputError, match="manifold"):
        ProductAutoregressive(Product([manifold, manifold]), SPLINE, nets())
    with pytest.raises(InputError, match="given"):
        TorusAutoregressive(2, SPLINE, Conditioner([8], n_given=3)).forward(torch.zeros(4, 2))
    with pytest.raises(InputError, match="given"):
        LineAutoregressive(2, nets()).forward(torch.zeros(4, 2), torch.zeros(4, 1))
    for matrix in (torch.ones(2, 2), 0.5 * torch.eye(2), torch.ones(2, 3)):
        with pytest.raises(InputError, match="matrix"):
            TorusFrame(matrix)
    flow = make_flow("T1 x S2 x R1")
    off = torch.tensor([[0.5, 0.0, 0.0, 1.1, 0.0]], dtype=torch.float64)
    with pytest.raises(InputError, match="unit vectors"):
        flow.log_prob(off)
    off[0, :4] = torch.tensor([7.0, 0.0, 0.0, 1.0])
    with pytest.raises(InputError, match="angles"):
        flow.log_prob(off)
