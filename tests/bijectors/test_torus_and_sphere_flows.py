"""Flows of angles and directions: orientation, seams, poles, symmetry, integrals."""

import math

import pytest
import torch

from bijector_cases import CASES, SPLINE, nets, shaken
from helmflow.bijectors.sphere_flows import ProjectiveLinear, RecursiveSphere
from helmflow.bijectors.torus_flows import TorusAutoregressive, TorusCoupling, circle_map
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.errors import InputError
from helmflow.manifolds.sphere import Sphere
from helmflow.manifolds.torus import Torus
from helmflow.streams import stream

TWO_PI = 2.0 * math.pi
TORUS = {
    "angles in turn": 3,
    "few neighbours": 4,
    "projections": 2,
    "relative angles": 4,
    "angles given others": 3,
}
SPHERE = {**{f"recursive S{d}": d for d in (2, 3, 4, 7)}, "projective": 3}
SPHERE |= {f"potential S{d}": d for d in (1, 2, 3, 5, 7)}


@pytest.mark.parametrize("name", [*TORUS, *SPHERE])
def test_orientation_is_kept(name):
    """The determinant itself, not only its modulus, is positive."""
    f, x = CASES[name].make(), CASES[name].points(20)
    y = f.forward(x)[0].detach()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: f.forward(z[None])[0][0]))(x)
    if name in SPHERE:
        frame = Sphere(SPHERE[name]).tangent_basis(x)
        jacobian = torch.cat((jacobian @ frame, y.unsqueeze(-1)), -1)
        jacobian = jacobian @ torch.cat((frame, x.unsqueeze(-1)), -1).mT
    assert (torch.linalg.det(jacobian) > 0).all()


@pytest.mark.parametrize("name", TORUS)
def test_density_is_continuous_across_every_seam(name):
    """Trap: a conditioner that sees raw angles makes the density jump by tenths of nats."""
    flow = Flow(Uniform(Torus(TORUS[name])), CASES[name].make())
    x = Torus(TORUS[name]).uniform(30, stream(4, "x"))
    for k in range(TORUS[name]):
        low, high = x.clone(), x.clone()
        low[:, k], high[:, k] = 1e-9, TWO_PI - 1e-9
        jump = (flow.log_prob(low) - flow.log_prob(high)).abs().max()
        assert jump < 1e-6


@pytest.mark.parametrize("name", ["autoregressive", "coupling"])
def test_new_flows_are_the_identity(name):
    makers = {
        "autoregressive": lambda: TorusAutoregressive(3, SPLINE, nets()),
        "coupling": lambda: TorusCoupling([True, False, True], SPLINE, nets()),
    }
    f = makers[name]()
    x = Torus(3).uniform(20, stream(5, "x"))
    y, log_det = f.forward(x)
    assert (y - x).abs().max() < 1e-13
    assert log_det.abs().max() < 1e-13


def test_relative_flows_turn_with_all_their_angles():
    flow = Flow(Uniform(Torus(4)), CASES["relative angles"].make())
    x = Torus(4).uniform(20, stream(6, "x"))
    turned = Torus(4).exp(x, torch.full_like(x, 1.234))
    assert (flow.log_prob(turned) - flow.log_prob(x)).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["recursive S2", "recursive S3", "projective"])
def test_sphere_densities_integrate_to_one(name):
    f, dim = CASES[name].make(), SPHERE[name]
    x = Sphere(dim).uniform(40_000, stream(12, "x"))
    with torch.no_grad():
        log_q = Flow(Uniform(Sphere(dim)), f).log_prob(x)
    ratio = (log_q + Sphere(dim).log_volume).exp()
    assert ratio.std() < 20.0
    assert abs(ratio.mean() - 1.0) < 5.0 * ratio.std() / 200.0


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_poles_are_harmless(dim):
    """Trap: (1 - g^2)/(1 - r^2) is 0/0 at the poles of S^3 and above."""
    f = shaken(RecursiveSphere(dim, circle_map(3), nets()))
    x = torch.zeros(4, dim + 1, dtype=torch.float64)
    x[0, -1], x[1, -1], x[2, -1], x[2, 0] = 1.0, -1.0, 1.0, 1e-9
    x[3, 0] = 1.0
    x.requires_grad_()
    _, log_det = f.forward(x)
    assert torch.isfinite(log_det).all()
    (grown,) = torch.autograd.grad(log_det.sum(), x)
    assert torch.isfinite(grown).all()
    assert abs(log_det[0] - log_det[2]) < 1e-6


def test_projective_maps_respect_antipodes():
    f = shaken(ProjectiveLinear(3))
    x = Sphere(3).uniform(20, stream(9, "x"))
    y, log_det = f.forward(x)
    opposite, log_opposite = f.forward(-x)
    assert (y + opposite).abs().max() < 1e-15
    assert torch.equal(log_det, log_opposite)


def test_an_angle_depends_on_those_it_is_shown():
    flow = CASES["few neighbours"].make()
    x = Torus(4).uniform(1, stream(3, "x"))[0]
    jacobian = torch.func.jacrev(lambda z: flow.forward(z[None])[0][0])(x)
    expected = torch.eye(4, dtype=torch.bool)
    # 1 -> 0 -> 3 and both 0 and 3 -> 2
    for place, others in ((0, [1]), (3, [0, 1]), (2, [0, 1, 3])):
        expected[place, others] = True
    assert torch.equal(jacobian != 0.0, expected)


def test_mistakes():
    with pytest.raises(InputError, match="order"):
        TorusAutoregressive(3, SPLINE, nets(), order=[0, 1, 1])
    with pytest.raises(InputError, match="seen"):
        TorusAutoregressive(3, SPLINE, nets(), seen=[[], [2], []])
    with pytest.raises(InputError, match="seen"):
        TorusAutoregressive(3, SPLINE, nets(), seen=[[], []])
    with pytest.raises(InputError, match="moved"):
        TorusCoupling([True, True], SPLINE, nets())
    with pytest.raises(InputError, match="shape"):
        CASES["angles in turn"].make().forward(torch.zeros(3, 5))
