"""Tori, spheres, products: volumes, geodesics, bases, quadrature, refused points."""

import math

import pytest
import torch

from helmflow.errors import InputError
from helmflow.manifolds.product import Euclidean, Product, parse_manifold
from helmflow.manifolds.sphere import (
    SMALL,
    Sphere,
    cos_of,
    cot_deficit_of,
    sinc_of,
)
from helmflow.manifolds.torus import Torus
from helmflow.streams import stream

COMPACT = [Torus(1), Torus(3), *(Sphere(d) for d in range(1, 8)), parse_manifold("T2 x S2")]
LOG_AREA = {
    1: 1.837877066409346,
    2: 2.531024246969291,
    3: 2.982606952258746,
    4: 3.270289024710527,
    5: 3.434189657548201,
    6: 3.498728178685772,
    7: 3.480307254729491,
}


@pytest.mark.parametrize("dim", LOG_AREA)
def test_areas(dim):
    assert abs(Sphere(dim).log_volume - LOG_AREA[dim]) < 1e-14


@pytest.mark.parametrize("manifold", COMPACT, ids=repr)
def test_geodesics(manifold):
    x, y = (manifold.uniform(200, stream(k, "points")) for k in (0, 1))
    manifold.require(x)
    v = manifold.log(x, y)
    manifold.require(manifold.exp(x, v))
    assert manifold.distance(manifold.exp(x, v), y).max() < 1e-7
    assert (manifold.log(x, manifold.exp(x, 0.3 * v)) - 0.3 * v).abs().max() < 1e-13
    assert manifold.distance(x, x).max() < 1e-14


@pytest.mark.parametrize("manifold", COMPACT, ids=repr)
def test_uniform_points_have_no_direction(manifold):
    n = 20_000
    x = manifold.uniform(n, stream(3, "uniform"))
    seen = torch.cat([x.cos(), x.sin()], 1) if isinstance(manifold, Torus) else x
    if not isinstance(manifold, Product):
        assert (seen.mean(0).abs() * math.sqrt(n)).max() < 5.0


@pytest.mark.parametrize("dim", range(1, 8))
def test_tangent_basis_is_orthonormal(dim):
    sphere = Sphere(dim)
    x = sphere.uniform(50, stream(4, "basis"))
    x[0], x[1] = 0.0, 0.0
    x[0, -1], x[1, -1] = 1.0, -1.0  # the poles, where a careless reflection is 0/0
    basis = sphere.tangent_basis(x)
    assert (basis.mT @ basis - torch.eye(dim, dtype=torch.float64)).abs().max() < 1e-14
    assert (basis.mT @ x.unsqueeze(-1)).abs().max() < 1e-14


@pytest.mark.parametrize("manifold", [Torus(2), Sphere(2), Sphere(3), Sphere(4)], ids=repr)
def test_quadrature_integrates(manifold):
    nodes, weights = manifold.quadrature(12)
    assert abs(weights.sum().log() - manifold.log_volume) < 1e-12
    if isinstance(manifold, Sphere):
        moments = torch.einsum("n,ni,nj->ij", weights, nodes, nodes)
        expected = math.exp(manifold.log_volume) / manifold.n_coordinates
        identity = torch.eye(len(moments), dtype=torch.float64)
        assert (moments - expected * identity).abs().max() < 1e-12
        assert (weights @ nodes).abs().max() < 1e-12


def test_functions_of_the_squared_angle_join_smoothly():
    a = torch.tensor([0.09999999, 0.1000001, 1.0, 3.0], dtype=torch.float64)
    s = a.square()
    assert SMALL == pytest.approx(0.01)
    assert (sinc_of(s) - a.sin() / a).abs().max() < 1e-14
    assert (cos_of(s) - a.cos()).abs().max() < 1e-14
    assert (cot_deficit_of(s) - (1.0 - a / a.tan()) / s).abs().max() < 2e-13
    zero = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    grown = torch.autograd.grad((sinc_of(zero) + cot_deficit_of(zero)).sum(), zero)[0]
    assert abs(grown.item() - (-1 / 6 + 1 / 45)) < 1e-15


@pytest.mark.parametrize(
    ("manifold", "x", "message"),
    [
        (Torus(2), torch.zeros(3, 3), "shape"),
        (Torus(2), torch.tensor([[0.0, 7.0]]), "angles in"),
        (Torus(2), torch.tensor([[0.0, -0.1]]), "angles in"),
        (Torus(2), torch.tensor([[0.0, math.nan]]), "finite"),
        (Sphere(2), torch.tensor([[0.0, 0.0, 1.1]]), "unit vectors"),
        (Sphere(2), torch.zeros(1, 2), "shape"),
        (Product([Torus(1), Sphere(1)]), torch.tensor([[1.0, 0.5, 0.5]]), "unit vectors"),
    ],
)
def test_points_off_the_manifold_are_refused(manifold, x, message):
    with pytest.raises(InputError, match=message):
        manifold.require(x)


def test_names():
    product = parse_manifold("T2 x S2 x R1")
    assert repr(product) == "T2 x S2 x R1"
    assert (product.dim, product.n_coordinates) == (5, 6)
    for text in ("T0", "Q2", "T2xS2", "", "S2 x"):
        with pytest.raises(InputError, match="manifold"):
            parse_manifold(text)
    with pytest.raises(InputError, match="compact"):
        Euclidean(2).uniform(3, stream(0, "x"))
    with pytest.raises(InputError, match="grid"):
        Torus(16).quadrature(10)
