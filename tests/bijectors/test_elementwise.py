"""Monotone maps of single numbers: identity at zero, round trips, slopes, published vectors."""

import math

import pytest
import torch

from helmflow.bijectors.circle_maps import (
    MoebiusMixture,
    ProjectionMixture,
    Rotation,
    moebius,
    projection,
)
from helmflow.bijectors.elementwise import Bends, Composed, ShiftScale
from helmflow.bijectors.splines import (
    SMALLEST_SLOPE,
    CircularSpline,
    RationalQuadraticSpline,
    _find_bin,
)
from helmflow.errors import ConvergenceError, InputError
from helmflow.manifolds.torus import wrap
from helmflow.streams import stream

TWO_PI = 2.0 * math.pi
CIRCLE = {
    "spline": CircularSpline(7),
    "moebius": MoebiusMixture(5),
    "projection": ProjectionMixture(5),
    "composed": Composed([CircularSpline(4), MoebiusMixture(3)]),
}
LINE = {
    "tails": RationalQuadraticSpline(6, -2.0, 3.0),
    "ends": RationalQuadraticSpline(6, -1.0, 1.0, linear_tails=False),
    "affine": ShiftScale(),
    "bends": Bends(),
}
MAPS = {**CIRCLE, **LINE}
ANGLES = torch.tensor([0.5, 1.0, 2.0, 3.0, 4.5, 6.0], dtype=torch.float64)


def numbers(f, n=2000, seed=0):
    """Numbers over the whole domain, its ends among them, and rough parameters."""
    generator = stream(seed, "elementwise")
    u = torch.rand(n, generator=generator, dtype=torch.float64)
    u[0], u[1] = 0.0, 1.0
    x = TWO_PI * u if f in CIRCLE.values() else 2.0 * u - 1.0
    if f is LINE["tails"]:
        x = 4.0 * x
    if f is LINE["bends"]:
        x = 8.0 * x
    p = torch.randn(n, f.n_parameters, generator=generator, dtype=torch.float64)
    return x, 1.5 * p


@pytest.mark.parametrize("name", MAPS)
def test_parameters_zero_are_the_identity(name):
    x, p = numbers(MAPS[name])
    for direction in (MAPS[name].forward, MAPS[name].inverse):
        y, log_slope = direction(x, 0.0 * p)
        assert (y - x).abs().max() < 1e-14
        assert log_slope.abs().max() < 1e-14


@pytest.mark.parametrize("name", MAPS)
def test_inverse_and_slope(name):
    f = MAPS[name]
    x, p = numbers(f)
    x.requires_grad_()
    y, log_slope = f.forward(x, p)
    slope = torch.autograd.grad(y.sum(), x)[0]
    assert (slope.log() - log_slope).abs().max() < 1e-11
    again, log_inverse = f.inverse(y.detach(), p)
    # an angle where the map is flat is known less well: the error is that of y
    assert ((again - x) * log_slope.exp().clamp_max(1.0)).abs().max() < 1e-12
    steep = log_slope > -4.0
    assert (log_inverse + log_slope)[steep].abs().max() < 1e-9


@pytest.mark.parametrize("name", MAPS)
def test_gradients_of_the_inverse_are_implicit(name):
    """d f^-1(y, p) against minus (df/dp)/f' from the forward map, and finite differences in y."""
    f = MAPS[name]
    x, p = numbers(f, n=40, seed=1)
    x = x[2:]
    p = p[2:].requires_grad_()
    y, log_slope = f.forward(x, p)
    probe = torch.randn(x.shape, generator=stream(2, "probe"), dtype=torch.float64)
    expected = torch.autograd.grad(y, p, -probe * (-log_slope).exp().detach())[0]
    target = y.detach().requires_grad_()
    again, log_inverse = f.inverse(target, p)
    found = torch.autograd.grad(again, (p, target), probe, retain_graph=True)
    torch.testing.assert_close(found[0], expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found[1], probe * log_inverse.exp(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MAPS)
def test_gradient_of_the_inverse_log_slope(name):
    f = MAPS[name]
    x, p = numbers(f, n=12, seed=3)
    y = f.forward(x, p)[0][2:].detach()
    p = p[2:].requires_grad_()
    direction = torch.randn(p.shape, generator=stream(4, "probe"), dtype=torch.float64)
    found = torch.autograd.grad(f.inverse(y, p)[1].sum(), p)[0].mul(direction).sum()
    h = 1e-6
    with torch.no_grad():
        high, low = (f.inverse(y, p + s * h * direction)[1].sum() for s in (1, -1))
    torch.testing.assert_close(found, (high - low) / (2 * h), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CIRCLE)
def test_circle_maps_fix_the_seam_and_join_smoothly(name):
    """Trap: mixtures average lifted angles; one that wraps at an end would be off by a turn."""
    f = CIRCLE[name]
    _, p = numbers(f, n=100)
    zero = torch.zeros(100, dtype=torch.float64)
    y0, slope0 = f.forward(zero, p)
    y1, slope1 = f.forward(zero + TWO_PI, p)
    assert y0.abs().max() < 1e-13
    assert (y1 - TWO_PI).abs().max() < 1e-13
    assert (slope0 - slope1).abs().max() < 1e-11


def test_moebius_vectors():
    w = torch.tensor([[0.5, 0.0], [0.3, -0.5], [-0.2, 0.7]], dtype=torch.float64)
    y, slope = moebius(ANGLES[:, None], w[:, 0], w[:, 1])
    assert abs(y[0, 0] - 1.307357903371) < 1e-12
    assert abs(y[5, 1] - 5.970811324460) < 1e-12
    assert abs(slope[2, 2] - 5.191943510016) < 1e-11
    mixed = y @ torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    expected = "0.438275520820 0.790048003378 2.696765722951 3.740301794735 4.331358498913"
    assert (
        mixed[:5] - torch.tensor([float(v) for v in expected.split()], dtype=torch.float64)
    ).abs().max() < 1e-11


def test_projection_vectors():
    alpha, beta = torch.tensor([1.7, 0.4], dtype=torch.float64)
    y, slope = projection(ANGLES, alpha, beta)
    expected = [0.316924618038, 0.706568428232, 1.931518014101, 3.686580172297, 5.255857166420]
    assert (y[:5] - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-11
    assert abs(slope[2] - 1.624135438087) < 1e-11


def test_spline_vectors():
    """Known knots: circle and interval."""
    double = {"dtype": torch.float64}
    knots = (
        torch.tensor([-1.0, -0.6, 0.1, 0.5, 1.0], **double),
        torch.tensor([-1.0, -0.2, 0.0, 0.7, 1.0], **double),
        (torch.tensor([1.5, 0.4, 2.0, 0.8, 0.3], **double) - SMALLEST_SLOPE).expm1().log(),
    )
    knots[2].sub_(math.log(math.expm1(1.0 - SMALLEST_SLOPE)))
    x = torch.tensor([-0.95, -0.6, -0.3, 0.0, 0.3, 0.7, 0.99], **double)
    wide = tuple(k.expand(7, 5) for k in knots)
    y, log_slope = _find_bin(x, wide[0][:, 1:-1], wide).forward(x)
    expected = [-0.911738746690203, -0.2, -0.158982511923688, -0.0983981693363844]
    assert (y[:4] - torch.tensor(expected, **double)).abs().max() < 1e-14
    slopes = [2.03214329950635, 0.4, 0.0967796563045792, 0.486414025313009, 1.94444444444444]
    assert (log_slope[:5].exp() - torch.tensor(slopes, **double)).abs().max() < 1e-13


def test_a_moebius_map_of_the_uniform_is_a_wrapped_cauchy():
    a = torch.tensor([0.3, -0.5], dtype=torch.float64)
    x = torch.linspace(0.0, 6.0, 50, dtype=torch.float64)
    y, slope = moebius(x, *a)
    # undo the turn that pins 0: arg h_w(1) is minus the turn at 0
    z = torch.complex(x.cos(), x.sin())
    w = torch.complex(*a)
    moved = (1 - w.abs() ** 2) / (z - w).abs() ** 2 * (z - w) - w
    density = (1 - w.abs() ** 2) / (TWO_PI * (moved + w).abs() ** 2)
    assert (1.0 / (TWO_PI * slope) - density).abs().max() < 1e-14
    assert y.diff().min() > 0


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_pole_factor_has_no_cancellation(end):
    """Trap: (1 - g^2)/(1 - r^2) is 0/0 at the poles; the limit is the slope there."""
    f = LINE["ends"]
    _, p = numbers(f, n=50)
    near = end * (1.0 - torch.logspace(-16, -1, 50, dtype=torch.float64))
    ratio = f.log_end_ratio(near, p)
    slope = f.forward(torch.full_like(near, end), p)[1]
    assert (ratio - slope)[:10].abs().max() < 1e-4
    y = f.forward(near, p)[0]
    naive = torch.log((1 - y**2) / (1 - near**2))
    assert (ratio - naive)[-15:].abs().max() < 1e-9
    x = torch.tensor([end, 0.5 * end], dtype=torch.float64, requires_grad=True)
    grown = torch.autograd.grad(f.log_end_ratio(x, p[:2]).sum(), x)[0]
    assert torch.isfinite(grown).all()


def test_equal_components_move_apart():
    """From parameters zero, a step along equal gradients must not keep the centres equal."""
    for f in (CIRCLE["moebius"], CIRCLE["projection"]):
        _, a, b = f._parts(torch.cat([torch.zeros(5), torch.ones(10)]).double())
        distance = (a - a[:, None]).square() + (b - b[:, None]).square()
        assert (distance + torch.eye(5)).min() > 1e-2


def test_rotation_wraps():
    f = Rotation()
    x = torch.tensor([0.1, 6.0], dtype=torch.float64)
    y, log_slope = f.forward(x, torch.tensor([[-0.2], [1.0]], dtype=torch.float64))
    assert ((y >= 0) & (y < TWO_PI)).all()
    assert (log_slope == 0).all()
    back, _ = f.inverse(y, torch.tensor([[-0.2], [1.0]], dtype=torch.float64))
    assert (back - x).abs().max() < 1e-14
    assert wrap(torch.tensor(-1e-20, dtype=torch.float64)) == 0.0


def test_tails_are_the_identity():
    x = torch.tensor([-5.0, 8.0], dtype=torch.float64)
    _, p = numbers(LINE["tails"], n=2)
    y, log_slope = LINE["tails"].forward(x, p)
    assert torch.equal(y, x)
    assert (log_slope == 0).all()


def test_mistakes():
    with pytest.raises(InputError, match="n_bins"):
        CircularSpline(0)
    with pytest.raises(InputError, match="lower"):
        RationalQuadraticSpline(4, 1.0, 0.0)
    with pytest.raises(InputError, match="n_components"):
        MoebiusMixture(0)
    with pytest.raises(InputError, match="maps"):
        Composed([])
    _, p = numbers(CIRCLE["moebius"], n=2)
    with pytest.raises(ConvergenceError):
        CIRCLE["moebius"].inverse(torch.tensor([1.0, 7.0], dtype=torch.float64), p)
