"""Flows of angles and directions: round trips, determinants, seams, poles, symmetry."""

import math

import pytest
import torch
from torch import nn

from helmflow.bijectors.base import Chain
from helmflow.bijectors.circle_maps import ProjectionMixture, Rotation
from helmflow.bijectors.elementwise import Composed
from helmflow.bijectors.explicit_potentials import (
    PolynomialPotential,
    RadialSumPotential,
    SoftMinPotential,
    half_square_angle,
)
from helmflow.bijectors.potential_map import SpherePotentialMap
from helmflow.bijectors.sphere_flows import (
    ProjectiveLinear,
    RecursiveSphere,
    SphereMoebius,
    SphereRotation,
)
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import (
    RingTree,
    TorusAutoregressive,
    TorusCoupling,
    circle_map,
)
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.errors import InputError
from helmflow.manifolds.sphere import Sphere, normalised
from helmflow.manifolds.torus import Torus
from helmflow.streams import stream

SPLINE = Composed([CircularSpline(5), Rotation()])
TWO_PI = 2.0 * math.pi


def shaken(module, strength=0.7, seed=0):
    """Every learned parameter moved away from the identity."""
    generator = stream(seed, "shake")
    with torch.no_grad():
        for p in filter(lambda p: p.requires_grad, module.parameters()):
            p += strength * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return module


def soft_min(dim):
    points = Sphere(dim).uniform(6, stream(1, "points"))
    return SoftMinPotential(points, torch.zeros(6, dtype=torch.float64), 0.3)


TORUS = {
    "autoregressive": shaken(TorusAutoregressive(3, SPLINE, [8], order=[2, 0, 1])),
    "few neighbours": shaken(
        TorusAutoregressive(4, SPLINE, [8], order=[1, 0, 3, 2], seen=[[1], [], [3, 0], [0]])
    ),
    "projections": shaken(TorusAutoregressive(2, ProjectionMixture(3), [8])),
    "relative": shaken(TorusAutoregressive(4, circle_map(3), [8], relative=True)),
    "coupling": Chain(
        [
            shaken(TorusCoupling([True, False, True], SPLINE, [8])),
            shaken(TorusCoupling([False, True, False], circle_map(3), [8]), seed=1),
        ]
    ),
    "tree": shaken(RingTree(8, circle_map(3), [8])),
}
DIMS = {
    "autoregressive": 3,
    "few neighbours": 4,
    "projections": 2,
    "relative": 4,
    "coupling": 3,
    "tree": 8,
}
SPHERE = {
    f"recursive {d}": (
        Chain(
            [
                shaken(SphereRotation(d)),
                shaken(RecursiveSphere(d, circle_map(3), [8]), 0.3),
            ]
        ),
        d,
    )
    for d in (1, 2, 3, 4, 7)
}
SPHERE |= {
    "moebius": (SphereMoebius(3, torch.tensor([0.3, 0.1, -0.5, 0.2]).double()), 3),
    "projective": (shaken(ProjectiveLinear(3), 0.3), 3),
    "polynomial": (SpherePotentialMap(shaken(PolynomialPotential(2)), 2), 2),
    "radial sum": (
        SpherePotentialMap(RadialSumPotential(Sphere(2).uniform(4, stream(2, "c"))), 2),
        2,
    ),
    "soft min": (SpherePotentialMap(soft_min(2), 2), 2),
}


@pytest.mark.parametrize("name", TORUS)
def test_torus_flows(name):
    f, torus = TORUS[name], Torus(DIMS[name])
    x = torus.uniform(60, stream(3, "x"))
    y, log_det = f.forward(x)
    torus.require(y.detach())
    again, log_inverse = f.inverse(y)
    assert torus.distance(again, x).max() < 1e-11
    assert (log_det + log_inverse).abs().max() < 1e-9
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: f.forward(z[None])[0][0]))(x[:20])
    expected = torch.linalg.slogdet(jacobian)
    assert (expected.sign > 0).all()
    assert (expected.logabsdet - log_det[:20]).abs().max() < 1e-10


@pytest.mark.parametrize("name", TORUS)
def test_density_is_continuous_across_every_seam(name):
    """Trap: a conditioner that sees raw angles makes the density jump by tenths of nats."""
    flow = Flow(Uniform(Torus(DIMS[name])), TORUS[name])
    x = Torus(DIMS[name]).uniform(30, stream(4, "x"))
    for k in range(DIMS[name]):
        low, high = x.clone(), x.clone()
        low[:, k], high[:, k] = 1e-9, TWO_PI - 1e-9
        jump = (flow.log_prob(low) - flow.log_prob(high)).abs().max()
        assert jump < 1e-6


@pytest.mark.parametrize("name", ["autoregressive", "coupling", "tree"])
def test_new_flows_are_the_identity(name):
    makers = {
        "autoregressive": lambda: TorusAutoregressive(3, SPLINE, [8]),
        "coupling": lambda: TorusCoupling([True, False, True], SPLINE, [8]),
        "tree": lambda: RingTree(4, circle_map(3), [8]),
    }
    f = makers[name]()
    x = Torus(4 if name == "tree" else 3).uniform(20, stream(5, "x"))
    y, log_det = f.forward(x)
    if name != "tree":  # a tree adds angles up, and its nets start at random
        assert (y - x).abs().max() < 1e-13
        assert log_det.abs().max() < 1e-13


def test_relative_flows_turn_with_all_their_angles():
    for name in ("relative", "tree"):
        flow = Flow(Uniform(Torus(DIMS[name])), TORUS[name])
        x = Torus(DIMS[name]).uniform(20, stream(6, "x"))
        turned = Torus(DIMS[name]).exp(x, torch.full_like(x, 1.234))
        assert (flow.log_prob(turned) - flow.log_prob(x)).abs().max() < 1e-10


@pytest.mark.parametrize("name", SPHERE)
def test_sphere_flows(name):
    f, dim = SPHERE[name]
    sphere = Sphere(dim)
    x = sphere.uniform(60, stream(7, "x"))
    y, log_det = f.forward(x)
    sphere.require(y.detach())
    again, log_inverse = f.inverse(y)
    assert sphere.distance(again, x).max() < 1e-10
    assert (log_det + log_inverse).abs().max() < 1e-8
    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: f.forward(z[None])[0][0]))(x)
    jacobian = jacobian @ sphere.tangent_basis(x)
    expected = 0.5 * torch.linalg.slogdet(jacobian.mT @ jacobian).logabsdet
    assert (expected - log_det).abs().max() < 1e-9
    frame = torch.cat((sphere.tangent_basis(x), x.unsqueeze(-1)), -1)
    image = torch.cat((jacobian, y.unsqueeze(-1)), -1)
    signs = torch.linalg.det(image) / torch.linalg.det(frame)
    assert (signs > 0).all()


@pytest.mark.parametrize("name", ["recursive 2", "recursive 3", "moebius", "soft min"])
def test_sphere_densities_integrate_to_one(name):
    f, dim = SPHERE[name]
    x = Sphere(dim).uniform(40_000, stream(12, "x"))
    with torch.no_grad():
        log_q = Flow(Uniform(Sphere(dim)), f).log_prob(x)
    ratio = (log_q + Sphere(dim).log_volume).exp()
    assert ratio.std() < 20.0
    assert abs(ratio.mean() - 1.0) < 5.0 * ratio.std() / 200.0


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_poles_are_harmless(dim):
    """Trap: (1 - g^2)/(1 - r^2) is 0/0 at the poles of S^3 and above."""
    f = shaken(RecursiveSphere(dim, circle_map(3), [8]))
    x = torch.zeros(4, dim + 1, dtype=torch.float64)
    x[0, -1], x[1, -1], x[2, -1], x[2, 0] = 1.0, -1.0, 1.0, 1e-9
    x[3, 0] = 1.0
    x.requires_grad_()
    _, log_det = f.forward(x)
    assert torch.isfinite(log_det).all()
    (grown,) = torch.autograd.grad(log_det.sum(), x)
    assert torch.isfinite(grown).all()
    assert abs(log_det[0] - log_det[2]) < 1e-6


def test_moebius_of_the_uniform_is_spherical_cauchy():
    f, dim = SPHERE["moebius"]
    w = f.centre().detach()
    y = Sphere(dim).uniform(50, stream(8, "y"))
    rho, mu = w.norm(), -w / w.norm()
    expected = dim * torch.log((1 - rho**2) / (1 + rho**2 - 2 * rho * y @ mu))
    found = Flow(Uniform(Sphere(dim)), f).log_prob(y) + Sphere(dim).log_volume
    assert (found - expected).abs().max() < 1e-13


def test_projective_maps_respect_antipodes():
    f, _ = SPHERE["projective"]
    x = Sphere(3).uniform(20, stream(9, "x"))
    y, log_det = f.forward(x)
    opposite, log_opposite = f.forward(-x)
    assert (y + opposite).abs().max() < 1e-15
    assert torch.equal(log_det, log_opposite)


def test_double_moebius_is_projective():
    """h_q + h_-q, normalised, is ``(1 + q^2) x - 2 (q.x) q`` up to its length."""
    q = torch.tensor([0.3, 0.1, -0.5, 0.2], dtype=torch.float64)
    x = Sphere(3).uniform(20, stream(10, "x"))
    both = SphereMoebius(3, q).forward(x)[0] + SphereMoebius(3, -q).forward(x)[0]
    s = q @ q
    y = (1 + s) * x - 2.0 * (x @ q)[:, None] * q
    assert (normalised(both) - normalised(y)).abs().max() < 1e-14
    log_det = (1 - s).log() + 3 * (1 + s).log() - 2 * y.square().sum(1).log()
    expected = (1 - s).log() + 3 * (1 + s).log() - 2 * ((1 + s) ** 2 - 4 * (x @ q) ** 2).log()
    assert (log_det - expected).abs().max() < 1e-13


def test_the_printed_bound_for_polynomials_folds():
    """Trap: |mu|_1 + |A|_1 <= 1 for mu.x + x'Ax is not enough; for x'Ax/2 it is."""
    t = torch.tensor([0.1], dtype=torch.float64)
    x = torch.stack((t.cos(), t.sin()), -1)
    potential = PolynomialPotential(1)
    potential.square.data[0, 0] = 1.0
    found = SpherePotentialMap(potential, 1).forward(x)[1].exp()
    assert abs(found - (1.0 - 0.99 * torch.cos(2 * t))) < 1e-14
    assert (1.0 - 2.0 * torch.cos(2 * t)) < 0  # what the printed one would have given


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["polynomial", "radial", "soft"])
@pytest.mark.parametrize("dim", [2, 3])
def test_bounded_potentials_never_fold(seed, kind, dim):
    sphere = Sphere(dim)
    points = sphere.uniform(5, stream(seed, "points"))
    potential = {
        "polynomial": lambda: PolynomialPotential(dim),
        "radial": lambda: RadialSumPotential(points, 3.0),
        "soft": lambda: SoftMinPotential(points, torch.zeros(5).double(), 0.1),
    }[kind]()
    f = SpherePotentialMap(shaken(potential, 1.0, seed), dim)
    with torch.no_grad():
        assert f.least_eigenvalue(sphere.uniform(4000, stream(seed, "x"))).min() > -1e-12


def test_one_radial_term_of_full_weight_is_out_of_reach():
    """Trap: with sum alpha = 1 and one centre the density there is infinite."""
    centre = Sphere(2).uniform(1, stream(11, "c"))
    potential = RadialSumPotential(centre, 1.0)
    potential.logits.data[:] = torch.tensor([100.0, -100.0])
    log_det = SpherePotentialMap(potential, 2).forward(centre)[1]
    assert abs(log_det - 2.0 * math.log(0.01)) < 1e-9


def test_exact_radial_values():
    """One centre: t' = t - s sin t, s = alpha exp(beta (cos t - 1))."""
    potential = RadialSumPotential(torch.tensor([[0.0, 0.0, 1.0]]).double(), 1.0)
    potential.logits.data = torch.tensor([0.5 / 0.99, 1 - 0.5 / 0.99], dtype=torch.float64).log()
    t = torch.tensor([0.001, 0.1, 0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    x = torch.stack((t.sin(), 0 * t, t.cos()), -1)
    y, log_det = SpherePotentialMap(potential, 2).forward(x)
    moved = torch.atan2(y[:, 0], y[:, 2])
    expected = [0.000500000333333, 0.0503320454176, 0.287907187447, 0.734316258946, 1.88968077309]
    assert (moved[:5] - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-11
    known = [-1.38629156946, -1.35875393884, -0.86144762738, -0.17613850099, 0.183812170673]
    assert (log_det[:5] - torch.tensor(known, dtype=torch.float64)).abs().max() < 1e-10


def test_an_angle_depends_on_those_it_is_shown():
    flow = TORUS["few neighbours"]
    x = Torus(4).uniform(1, stream(3, "x"))[0]
    jacobian = torch.func.jacrev(lambda z: flow.forward(z[None])[0][0])(x)
    expected = torch.eye(4, dtype=torch.bool)
    # 1 -> 0 -> 3 and both 0 and 3 -> 2
    for place, others in ((0, [1]), (3, [0, 1]), (2, [0, 1, 3])):
        expected[place, others] = True
    assert torch.equal(jacobian != 0.0, expected)


def test_half_square_angle_joins_its_series():
    t = torch.tensor([1.0 - 0.999e-3, 1.0 - 1.001e-3], dtype=torch.float64, requires_grad=True)
    cost, first, second = half_square_angle(t)
    (slope,) = torch.autograd.grad(cost.sum(), t, create_graph=True)
    assert (slope - first).abs().max() < 1e-10
    assert (torch.autograd.grad(first.sum(), t)[0] - second).abs().max() < 1e-7
    assert (cost - 0.5 * t.acos().square()).abs().max() < 1e-15


def test_mistakes():
    with pytest.raises(InputError, match="order"):
        TorusAutoregressive(3, SPLINE, [8], order=[0, 1, 1])
    with pytest.raises(InputError, match="seen"):
        TorusAutoregressive(3, SPLINE, [8], seen=[[], [2], []])
    with pytest.raises(InputError, match="seen"):
        TorusAutoregressive(3, SPLINE, [8], seen=[[], []])
    with pytest.raises(InputError, match="moved"):
        TorusCoupling([True, True], SPLINE, [8])
    with pytest.raises(InputError, match="n:"):
        RingTree(6, SPLINE, [8])
    with pytest.raises(InputError, match="centre"):
        SphereMoebius(2, torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(InputError, match="shape"):
        TORUS["autoregressive"].forward(torch.zeros(3, 5))
    assert isinstance(TORUS["coupling"], nn.Module)
