"""Every manifold by the same properties; areas, bases, names, functions of the squared angle."""

import math
from dataclasses import dataclass

import pytest
import torch

from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.product import Euclidean, Product, parse_manifold
from helmflow.manifolds.rotations import Rotations, rotation_matrix
from helmflow.manifolds.sphere import (
    SMALL,
    Sphere,
    cos_of,
    cot_deficit_of,
    sinc_of,
)
from helmflow.manifolds.torus import Torus
from helmflow.streams import stream

LOG_AREA = {
    1: 1.837877066409346,
    2: 2.531024246969291,
    3: 2.982606952258746,
    4: 3.270289024710527,
    5: 3.434189657548201,
    6: 3.498728178685772,
    7: 3.480307254729491,
}
ALMOST = 2.0 * math.pi - 1e-9


@dataclass
class Case:
    """A manifold and what is known of it.

    ``spread``: mean square of each feature. ``same``: pairs of rows for one point (to 1e-9).
    ``off``: a row that is no point.
    """

    manifold: Manifold
    log_volume: float
    spread: tuple[float, ...]
    same: tuple[tuple[float, ...], tuple[float, ...]]
    off: tuple[tuple[float, ...], str]

    def __repr__(self):
        return repr(self.manifold)


def torus(dim):
    zeros, ends = (0.0,) * dim, (ALMOST,) * dim
    volume = dim * math.log(2.0 * math.pi)
    return Case(Torus(dim), volume, (0.5,) * 2 * dim, (zeros, ends), ((7.0, *zeros[1:]), "angles"))


def sphere(dim):
    pole = (*(0.0,) * dim, 1.0)
    spread = (1.0 / (dim + 1),) * (dim + 1)
    off = (*pole[:-1], 1.1)
    return Case(Sphere(dim), LOG_AREA[dim], spread, (pole, pole), (off, "unit vectors"))


ROTATIONS = Case(
    Rotations(),
    2.0 * math.log(math.pi),
    (1.0 / 3.0,) * 9,
    ((0.5, -0.5, 0.1, 0.7), (-0.5, 0.5, -0.1, -0.7)),
    ((0.5, -0.5, 0.1, 0.71), "unit vectors"),
)


def product(*cases):
    joined = [tuple(sum((case.same[k] for case in cases), ())) for k in (0, 1)]
    return Case(
        Product([case.manifold for case in cases]),
        sum(case.log_volume for case in cases),
        sum((case.spread for case in cases), ()),
        tuple(joined),
        (sum((case.same[0] for case in cases[:-1]), ()) + cases[-1].off[0], cases[-1].off[1]),
    )


COMPACT = [
    *map(torus, (1, 2, 3)),
    *map(sphere, range(1, 8)),
    ROTATIONS,
    product(torus(1), sphere(1)),
    product(sphere(2), ROTATIONS),
]
LINE = Case(Euclidean(2), math.inf, (), ((1.0, 2.0), (1.0, 2.0)), ((1.0, math.nan), "finite"))
ALL = [*COMPACT, LINE, product(LINE, torus(1), ROTATIONS)]
compact = pytest.mark.parametrize("case", COMPACT, ids=repr)
every = pytest.mark.parametrize("case", ALL, ids=repr)


def points(manifold, n, seed):
    """Uniform points, normal ones on lines."""
    generator = stream(seed, "points")
    parts = [
        factor.uniform(n, generator)
        if factor.compact
        else torch.randn(n, factor.dim, generator=generator, dtype=torch.float64)
        for factor in manifold.factors
    ]
    return torch.cat(parts, -1)


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


@every
def test_volume_and_name(case):
    assert case.manifold.log_volume == pytest.approx(case.log_volume, abs=1e-14)
    assert case.manifold.compact == math.isfinite(case.log_volume)
    assert repr(parse_manifold(repr(case.manifold))) == repr(case.manifold)
    assert sum(factor.dim for factor in case.manifold.factors) == case.manifold.dim


@every
def test_geodesics(case):
    """exp and log undo one another; the distance is the length of log, the same both ways."""
    manifold = case.manifold
    x, y = points(manifold, 200, 0), points(manifold, 200, 1)
    manifold.require(x)
    v = manifold.log(x, y)
    assert (manifold.tangent(x, v) - v).abs().max() < 1e-12  # cancels next to antipodes
    manifold.require(manifold.exp(x, v))
    assert manifold.distance(manifold.exp(x, v), y).max() < 1e-7
    assert (manifold.log(x, manifold.exp(x, 0.3 * v)) - 0.3 * v).abs().max() < 1e-13
    there, back = manifold.distance(x, y), manifold.distance(y, x)
    assert (there - v.norm(dim=-1)).abs().max() < 1e-14
    assert (there - back).abs().max() < 1e-13
    assert manifold.distance(x, x).max() < 1e-14
    z = points(manifold, 200, 2)
    assert (there <= manifold.distance(x, z) + manifold.distance(z, y) + 1e-12).all()


@every
def test_features_are_single_valued(case):
    """Rows of one point have the same features, and no others do."""
    manifold = case.manifold
    x, y = points(manifold, 100, 0), points(manifold, 100, 1)
    seen = manifold.features(x)
    assert seen.shape == (100, manifold.n_features)
    for alias in manifold.aliases(x):
        manifold.require(alias)
        assert manifold.distance(alias, x).max() < 1e-7
        assert (manifold.features(alias) - seen).abs().max() < 1e-15
    first, second = (rows(row) for row in case.same)
    assert manifold.distance(first, second).max() < 1e-7
    assert (manifold.features(first) - manifold.features(second)).abs().max() < 1e-8
    apart = manifold.distance(x, y) > 0.1
    assert ((manifold.features(y) - seen).norm(dim=-1) > 1e-2)[apart].all()


@compact
def test_uniform_points(case):
    """Features of uniform points have mean zero, known mean squares and no correlation."""
    n = 20_000
    seen = case.manifold.features(case.manifold.uniform(n, stream(3, "uniform")))
    assert (seen.mean(0).abs() * math.sqrt(n)).max() < 5.0
    moments = seen.T @ seen / n
    assert (moments - torch.diag(rows(*case.spread))).abs().max() * math.sqrt(n) < 5.0


@compact
def test_quadrature(case):
    """Volume, and first and second moments of the features, to rounding."""
    nodes, weights = case.manifold.quadrature(4)
    case.manifold.require(nodes)
    assert abs(weights.sum().log() - case.log_volume) < 1e-12
    seen = case.manifold.features(nodes)
    share = weights / weights.sum()
    assert (share @ seen).abs().max() < 1e-13
    moments = torch.einsum("n,ni,nj->ij", share, seen, seen)
    assert (moments - torch.diag(rows(*case.spread))).abs().max() < 1e-13


@every
def test_points_off_the_manifold_are_refused(case):
    manifold = case.manifold
    row, message = case.off
    with pytest.raises(InputError, match=message):
        manifold.require(rows(row))
    with pytest.raises(InputError, match="shape"):
        manifold.require(torch.zeros(3, manifold.n_coordinates + 1))
    with pytest.raises(InputError, match="finite"):
        manifold.require(rows((math.nan,) * manifold.n_coordinates))


@every
def test_pictures_are_of_surfaces(case):
    picture = case.manifold.picture(4)
    assert (picture is not None) == (repr(case.manifold) in ("T2", "S2"))
    if picture is not None:
        first, second, surface = picture
        case.manifold.require(surface)
        assert len(surface) == len(first) * len(second) == 25


def test_rotations_are_matrices():
    """Orthogonal, of determinant one, and composed as quaternions are."""
    x, y = (Rotations().uniform(50, stream(k, "q")) for k in (0, 1))
    matrix = rotation_matrix(x)
    assert (matrix @ matrix.mT - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-14
    assert (torch.linalg.det(matrix) - 1.0).abs().max() < 1e-14
    w, u, s, v = x[:, :1], x[:, 1:], y[:, :1], y[:, 1:]
    scalar = w * s - (u * v).sum(-1, keepdim=True)
    both = torch.cat((scalar, w * v + s * u + torch.linalg.cross(u, v)), -1)
    assert (rotation_matrix(both) - matrix @ rotation_matrix(y)).abs().max() < 1e-14
    quarter = rows((math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5)))
    assert (rotation_matrix(quarter)[0] @ rows(1.0, 0.0, 0.0) - rows(0.0, 1.0, 0.0)).norm() < 1e-15


def test_distances_of_rotations_are_half_their_angles():
    x, y = (Rotations().uniform(200, stream(k, "q")) for k in (0, 1))
    turn = rotation_matrix(x).mT @ rotation_matrix(y)
    angle = torch.acos(((torch.diagonal(turn, dim1=1, dim2=2).sum(-1) - 1.0) / 2.0).clamp(-1, 1))
    assert (2.0 * Rotations().distance(x, y) - angle).abs().max() < 1e-7


@pytest.mark.parametrize("dim", range(1, 8))
def test_tangent_basis_is_orthonormal(dim):
    manifold = Sphere(dim)
    x = manifold.uniform(50, stream(4, "basis"))
    x[0], x[1] = 0.0, 0.0
    x[0, -1], x[1, -1] = 1.0, -1.0  # the poles, where a careless reflection is 0/0
    basis = manifold.tangent_basis(x)
    assert (basis.mT @ basis - torch.eye(dim, dtype=torch.float64)).abs().max() < 1e-14
    assert (basis.mT @ x.unsqueeze(-1)).abs().max() < 1e-14


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


def test_mistakes():
    for text in ("T0", "Q2", "T2xS2", "", "S2 x", "SO2", "SO4", "SOS3"):
        with pytest.raises(InputError, match="manifold"):
            parse_manifold(text)
    for make in (lambda: Torus(0), lambda: Sphere(0), lambda: Euclidean(0), lambda: Product([])):
        with pytest.raises(InputError, match="manifold"):
            make()
    with pytest.raises(InputError, match="compact"):
        Euclidean(2).uniform(3, stream(0, "x"))
    with pytest.raises(InputError, match="compact"):
        Euclidean(2).quadrature(3)
    with pytest.raises(InputError, match="grid"):
        Torus(16).quadrature(10)
