"""Maps along gradients of potentials: jets, implicit gradients, symmetry, folding."""

import math

import pytest
import torch

from bijector_cases import sphere_map, torus_map
from helmflow.bijectors.base import Inverse
from helmflow.bijectors.potential_map import (
    SpherePotentialMap,
    TorusPotentialMap,
    log_det_positive,
)
from helmflow.bijectors.potentials import (
    FourierPotential,
    RadialPotential,
    SymmetrisedPotential,
)
from helmflow.errors import ConvergenceError, InputError
from helmflow.manifolds.sphere import Sphere, spread_points
from helmflow.streams import stream

MAPS = {f"S{d}": sphere_map(d) for d in (1, 2, 3, 5, 7)}
MAPS |= {f"T{d}": torus_map(d) for d in (1, 2, 3, 4)}


@pytest.mark.parametrize("name", MAPS)
def test_jets_against_autograd(name):
    assert (
        MAPS[name].least_eigenvalue(MAPS[name].manifold.uniform(300, stream(3, "x"))).min() > 0.1
    )
    potential = MAPS[name].potential
    x = MAPS[name].manifold.uniform(10, stream(5, "x"))
    gradient, hessian = potential.jet(x)
    value = lambda z: potential(z[None])[0]  # noqa: E731
    assert (gradient - torch.func.vmap(torch.func.grad(value))(x)).abs().max() < 1e-13
    second = torch.func.vmap(torch.func.jacrev(torch.func.grad(value)))(x)
    assert (hessian - second).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["S2", "S3", "T2"])
def test_gradients_through_the_solution_are_implicit(name):
    """d inverse/d(y, parameters) against finite differences of converged inverses."""
    f = MAPS[name]
    y = f.manifold.uniform(6, stream(6, "y"))
    shift = 1e-5 * torch.randn(y.shape, generator=stream(7, "d"), dtype=torch.float64)
    if name.startswith("S"):
        shift = f.manifold.tangent(y, shift)
    turn = 1e-5 * torch.randn(
        f.potential.coefficients.shape, generator=stream(8, "d"), dtype=torch.float64
    )
    probe = torch.randn(y.shape, generator=stream(9, "d"), dtype=torch.float64)

    def value(sign):
        with torch.no_grad():
            f.potential.coefficients += sign * turn
            x, log_det = f.inverse(f.manifold.exp(y, sign * shift))
            f.potential.coefficients -= sign * turn
        return (x * probe).sum() + log_det.sum()

    leaf = y.clone().requires_grad_()
    x, log_det = f.inverse(leaf)
    loss = (x * probe).sum() + log_det.sum()
    by_y, by_a = torch.autograd.grad(loss, (leaf, f.potential.coefficients))
    slope = (by_y * shift).sum() + (by_a * turn).sum()
    expected = 0.5 * (value(1.0) - value(-1.0))
    assert abs(slope - expected) < 1e-8 * max(1.0, abs(expected) / 1e-5)


def test_pull_back_is_the_derivative():
    for f in (MAPS["S2"], MAPS["S3"], MAPS["T2"]):
        x = f.manifold.uniform(5, stream(10, "x"))
        features = f.potential.features(x)
        v, hessian = f.tangent_jet(x, *features.jet(f.potential.coefficients.detach()))
        v, hessian = v.detach().requires_grad_(), hessian.detach().requires_grad_()
        log_det = f.log_det(v, hessian).sum()
        p, P = torch.autograd.grad(log_det, (v, hessian), allow_unused=True)
        p = torch.zeros_like(v) if p is None else p
        rows = features.pull_back(*f.ambient(x, p, 0.5 * (P + P.mT)))
        for k in range(len(x)):
            direct = torch.autograd.grad(f.forward(x[k : k + 1])[1], f.potential.coefficients)[0]
            assert (rows[k] - direct).abs().max() < 1e-12


def test_symmetry_under_a_group_is_exact():
    """psi(R x) = psi(x) makes the map commute with R and the density invariant."""
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    group = torch.stack([torch.eye(3, dtype=torch.float64), half_turn])
    inner = MAPS["S2"].potential
    f = SpherePotentialMap(SymmetrisedPotential(inner, group), 2)
    x = Sphere(2).uniform(100, stream(11, "x"))
    for direction in (f.forward, f.inverse):
        y, log_det = direction(x)
        turned, log_turned = direction(x @ half_turn)
        assert (turned - y @ half_turn).abs().max() < 1e-10
        assert (log_turned - log_det).abs().max() < 1e-10


def test_antipodal_symmetry_on_unit_quaternions():
    group = torch.stack([torch.eye(4), -torch.eye(4)]).double()
    f = SpherePotentialMap(SymmetrisedPotential(MAPS["S3"].potential, group), 3)
    x = Sphere(3).uniform(50, stream(12, "x"))
    y, log_det = f.forward(x)
    turned, log_turned = f.forward(-x)
    assert (turned + y).abs().max() < 1e-12
    assert (log_turned - log_det).abs().max() < 1e-12


def test_translations_of_the_torus():
    shifts = torch.tensor([[0.0, 0.0], [math.pi, math.pi]], dtype=torch.float64)
    rotations = torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    f = TorusPotentialMap(SymmetrisedPotential(MAPS["T2"].potential, rotations, shifts), 2)
    x = f.manifold.uniform(50, stream(13, "x"))
    y, log_det = f.forward(x)
    shifted, log_shifted = f.forward(f.manifold.exp(x, shifts[1:]))
    assert f.manifold.distance(shifted, f.manifold.exp(y, shifts[1:])).max() < 1e-12
    assert (log_shifted - log_det).abs().max() < 1e-12


def test_a_map_that_folds_is_never_a_density():
    """Where the determinant is not that of a diffeomorphism it is NaN, not its modulus."""
    f = torus_map(1, strength=0.0)
    f.potential.coefficients.data[0] = -1.5  # 1 + psi'' = 1 - 1.5 cos x at best negative
    x = f.manifold.quadrature(64)[0]
    log_det = f.forward(x)[1]
    assert torch.isnan(log_det).any()
    assert f.least_eigenvalue(x).min() < 0
    steep = sphere_map(2, strength=3.0)
    points = Sphere(2).uniform(400, stream(14, "x"))
    assert torch.isnan(steep.forward(points)[1]).any()
    with pytest.raises(ConvergenceError, match="fold"):
        steep.inverse(points)


def test_log_det_positive():
    a = torch.randn(20, 5, 5, generator=stream(15, "x"), dtype=torch.float64)
    positive = a @ a.mT + 0.1 * torch.eye(5)
    assert (log_det_positive(positive) - torch.logdet(positive)).abs().max() < 1e-11
    twice_negative = -torch.eye(2, dtype=torch.float64)[None]
    assert torch.isnan(log_det_positive(twice_negative)).all()  # the determinant is +1


def test_centres_are_spread():
    for dim, n in ((2, 60), (3, 80)):
        sphere = Sphere(dim)
        x = spread_points(sphere, n, stream(16, "x"))
        sphere.require(x)
        nearest = (x[:, None] - x).norm(dim=-1).fill_diagonal_(9.0).min()
        spacing = math.exp((sphere.log_volume - math.log(n)) / dim)
        assert nearest > 0.6 * spacing


def test_mistakes():
    with pytest.raises(InputError, match="radius"):
        FourierPotential(2, 0.5)
    with pytest.raises(InputError, match="sharpness"):
        RadialPotential(torch.eye(3), 0.0)
    one = torch.eye(3, dtype=torch.float64)
    for wrong in (0.0 * one, 2.0 * one, math.nan * one, one[0], one[:0]):
        with pytest.raises(InputError, match="centres"):
            RadialPotential(wrong, 2.0)
    with pytest.raises(InputError, match="rotations"):
        SymmetrisedPotential(FourierPotential(2, 1), 2.0 * torch.eye(2)[None])
    with pytest.raises(InputError, match="n:"):
        spread_points(Sphere(2), 0, stream(0, "x"))


def test_inverse_map_swaps_the_directions():
    f = MAPS["S2"]
    x = Sphere(2).uniform(5, stream(17, "x"))
    assert torch.equal(Inverse(f).inverse(x)[0], f.forward(x)[0])
