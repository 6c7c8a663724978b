"""Flows that only benchmarks use are maps with the right determinants, too."""

import math

import pytest
import torch

from benchmarks.competitors.explicit_potentials import (
    PolynomialPotential,
    RadialSumPotential,
    SoftMinPotential,
    half_square_angle,
)
from benchmarks.competitors.ring_tree import RingTree
from bijector_cases import gap, jacobian_log_det, shaken, sphere, torus
from helmflow.bijectors.potential_map import SpherePotentialMap
from helmflow.bijectors.torus_flows import circle_map
from helmflow.errors import InputError
from helmflow.manifolds.sphere import Sphere
from helmflow.streams import stream


def soft_min():
    points = Sphere(2).uniform(6, stream(1, "points"))
    return SoftMinPotential(points, torch.zeros(6, dtype=torch.float64), 0.3)


def radial_sum():
    return RadialSumPotential(Sphere(2).uniform(4, stream(2, "c")))


COMPETITORS = {
    "tree": torus(8, lambda: shaken(RingTree(8, circle_map(3), [8]), 0.7)),
    "polynomial": sphere(2, lambda: SpherePotentialMap(shaken(PolynomialPotential(2), 0.7), 2)),
    "radial sum": sphere(2, lambda: SpherePotentialMap(radial_sum(), 2)),
    "soft min": sphere(2, lambda: SpherePotentialMap(soft_min(), 2)),
}


@pytest.mark.parametrize("name", COMPETITORS)
def test_round_trip_and_log_determinant(name):
    case = COMPETITORS[name]
    f, x = case.make(), case.points(60)
    y, log_det = f.forward(x)
    again, log_back = f.inverse(y.detach())
    assert gap(case, again, x) < case.back
    assert (log_det + log_back).abs().max() < case.minus
    assert abs(jacobian_log_det(case, f, x[:1]) - log_det[0]) < case.det


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


def test_half_square_angle_joins_its_series():
    t = torch.tensor([1.0 - 0.999e-3, 1.0 - 1.001e-3], dtype=torch.float64, requires_grad=True)
    cost, first, second = half_square_angle(t)
    (slope,) = torch.autograd.grad(cost.sum(), t, create_graph=True)
    assert (slope - first).abs().max() < 1e-10
    assert (torch.autograd.grad(first.sum(), t)[0] - second).abs().max() < 1e-7
    assert (cost - 0.5 * t.acos().square()).abs().max() < 1e-15


def test_mistakes():
    one = torch.eye(3, dtype=torch.float64)
    for make in (RadialSumPotential, lambda c: SoftMinPotential(c, torch.zeros(len(c)).double())):
        with pytest.raises(InputError, match=r"centres|points"):
            make(2.0 * one)
    with pytest.raises(InputError, match="heights"):
        SoftMinPotential(one, torch.zeros(2).double())
    with pytest.raises(InputError, match="n:"):
        RingTree(6, circle_map(3), [8])
