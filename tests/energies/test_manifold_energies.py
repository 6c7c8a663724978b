"""Targets on tori and spheres: published log densities, symmetry, exact normalisers, mistakes."""

import math

import pytest
import torch

from helmflow.energies.product import DipoleOnSpring
from helmflow.energies.rotation import MatrixFisher
from helmflow.energies.rugged import SinesAndCosines
from helmflow.energies.sphere import (
    AxialMixture,
    PowerSpherical,
    SphereMixture,
    SphericalCauchy,
    Watson,
)
from helmflow.energies.torus import (
    Checkerboard,
    PlanarArm,
    TorusCosines,
    TorusMixture,
    XYRing,
)
from helmflow.errors import InputError
from helmflow.manifolds.product import parse_manifold
from helmflow.manifolds.rotations import Rotations
from helmflow.manifolds.sphere import Sphere
from helmflow.streams import stream
from helmflow.system import load_system, shipped_systems

LOG_P = {
    "torus/unimodal": (
        [[0.0, 0.0], [1.0, 2.0], [3.0, 5.0]],
        [-3.70694736254898, -5.8302301819491, -3.19313803939371],
    ),
    "torus/multimodal": (
        [[0.0, 0.0], [1.0, 2.0], [3.0, 5.0]],
        [-4.00892313363183, -3.45209666154219, -4.05295808854719],
    ),
    "torus/correlated": (
        [[0.0, 0.0], [1.0, 2.0], [3.0, 5.0]],
        [-4.27254137146564, -3.42279640946534, -2.93647112001728],
    ),
    "sphere/four_modes": (
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        [-2.37663344460811, -7.49909945252828, -3.24750963852792],
    ),
    "sphere/four_modes_s3": (
        [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
        [-2.39623920167912, -4.71820294403506, -7.63898263414502],
    ),
}
FOLDERS = ("torus", "sphere", "rotation")
DENSITIES = [s.name for s in shipped_systems() if s.name.split("/")[0] in FOLDERS]


@pytest.mark.parametrize("name", LOG_P)
def test_published_log_densities(name):
    """Trap: two conventions of the four modes are in circulation; these numbers tell which."""
    system = load_system(name)
    points, expected = LOG_P[name]
    x = torch.tensor(points, dtype=torch.float64)
    found = -system.reduced_potential(x) - system.references[0].value
    assert (found - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.parametrize("name", DENSITIES)
def test_exact_normalisers_against_plain_sampling(name):
    system = load_system(name)
    n = 100_000
    x = system.manifold.uniform(n, stream(0, name))
    weight = (-system.reduced_potential(x) - system.references[0].value).exp()
    weight = weight * math.exp(system.manifold.log_volume)
    z = (weight.mean() - 1.0) / (weight.std() / math.sqrt(n))
    assert abs(z) < 5.0


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (n, 200)
        for n in DENSITIES
        if "T2" in repr(load_system(n).manifold) and "checkerboard" not in n  # not smooth
    ]
    + [(n, 40) for n in DENSITIES if n.startswith(("sphere", "rotation"))],
)
def test_exact_normalisers_against_quadrature(name, size):
    system = load_system(name)
    nodes, weights = system.manifold.quadrature(size)
    log_z = torch.logsumexp(weights.log() - system.reduced_potential(nodes), 0)
    assert abs(float(log_z) - system.references[0].value) < 1e-10


def test_sharpening_is_a_power_of_the_density():
    plain, sharp = (load_system(f"torus/unimodal{s}") for s in ("", "_sharp5"))
    x = plain.manifold.uniform(10, stream(1, "x"))
    assert torch.allclose(5.0 * plain.reduced_potential(x), sharp.reduced_potential(x))


def test_symmetries():
    x = torch.rand(20, 6, generator=stream(2, "x"), dtype=torch.float64) * 6.0
    ring = XYRing(6, 1.3)
    assert torch.allclose(ring(x), ring(x + 0.7))
    assert torch.allclose(ring(x), ring(x.roll(1, 1)))
    arm = PlanarArm([0.3] * 6, [[0.5, 0.1]], 0.2)
    assert torch.allclose(arm(x), arm(x + 2.0 * math.pi))
    watson = Watson([0.0, 0.6, 0.8], 5.0)
    y = x[:, :3] / x[:, :3].norm(dim=1, keepdim=True)
    assert torch.equal(watson(y), watson(-y))
    board = Checkerboard(4, 3.0)
    assert set(board(x[:, :2]).tolist()) == {0.0, 3.0}


def test_orientations_are_the_same_at_both_quaternions():
    mixture = AxialMixture([[1.0, 0.0, 0.0, 0.0], [0.0, 0.6, 0.0, 0.8]], [3.0, 7.0], [1.0, 2.0])
    q = Sphere(3).uniform(20, stream(3, "q"))
    assert torch.equal(mixture(q), mixture(-q))
    one = AxialMixture([[0.0, 0.6, 0.8]], 5.0, [1.0])
    x = Sphere(2).uniform(20, stream(4, "x"))
    assert torch.allclose(one(x), Watson([0.0, 0.6, 0.8], 5.0)(x))


@pytest.mark.parametrize("k", [-2.0, 0.0, 0.7, 5.0])
def test_fisher_density_of_the_angle_of_rotation(k):
    """exp(k tr R) depends on the angle alone, whose Haar density is (1 - cos t)/pi on [0, pi]."""
    t = (torch.arange(4000, dtype=torch.float64) + 0.5) * (math.pi / 4000)
    log_w = (1.0 - t.cos()).log() - math.log(4000.0)
    by_angle = float(torch.logsumexp(log_w + k * (1.0 + 2.0 * t.cos()), 0))
    energy = MatrixFisher((k * torch.eye(3, dtype=torch.float64)).tolist())
    assert energy.log_partition_function(1.0) - Rotations().log_volume == pytest.approx(
        by_angle, abs=1e-12
    )
    assert energy.log_partition_function(0.0) == pytest.approx(2.0 * math.log(math.pi), abs=1e-13)


FISHER = [[1.5, 0.3, -2.0], [0.7, -2.5, 0.4], [3.0, 1.0, 0.2]]


def test_fisher_density_by_quadrature():
    """Three singular values, either sign of the determinant, and a power."""
    nodes, weights = Rotations().quadrature(36)
    for rows, beta in ((FISHER, 1.0), (FISHER[::-1], 1.0), (FISHER, 0.4), (FISHER, -1.0)):
        energy = MatrixFisher(rows)
        log_z = torch.logsumexp(weights.log() - beta * energy(nodes), 0)
        assert energy.log_partition_function(beta) == pytest.approx(float(log_z), abs=1e-12)
    reference = load_system("rotation/matrix_fisher").references[0].value
    assert MatrixFisher(FISHER).log_partition_function(1.0) == pytest.approx(reference, abs=1e-12)


def test_fisher_density_is_bingham_in_quaternions():
    """tr(F'R(q)) = q'K q; ln Z from the Laplace transform of the eigenvalues of K."""
    q = Rotations().uniform(200, stream(5, "q"))
    energy = MatrixFisher(FISHER)
    square = (q.unsqueeze(-1) * q.unsqueeze(-2)).flatten(1)
    K = torch.linalg.lstsq(square, -energy(q), driver="gelsd").solution.reshape(4, 4)
    assert ((q @ (K + K.T) * q).sum(-1) / 2 + energy(q)).abs().max() < 1e-12
    values = torch.linalg.eigvalsh(0.5 * (K + K.T))
    # int over S^3 of e^(q'Kq) = 2 pi^2 / (2 pi i) int e^s prod (s - k_i)^(-1/2) ds
    y = torch.arange(-40_000, 40_001, dtype=torch.float64) * 0.01
    s = torch.complex(values.max() + 1.0 + 0.0 * y, y)
    terms = torch.exp(s) * (s[:, None] - values).to(torch.complex128).rsqrt().prod(-1)
    z = 2.0 * math.pi**2 * float(terms.sum().real) * 0.01 / (2.0 * math.pi)
    assert math.log(0.5 * z) == pytest.approx(energy.log_partition_function(1.0), abs=1e-3)


@pytest.mark.parametrize(("dim", "k"), [(2, 10.0), (3, 10.0), (1, 3.0)])
def test_power_spherical_normaliser(dim, k):
    axis = [0.6, 0.8] + [0.0] * (dim - 1)
    b = 0.5 * dim
    exact = (2 * b + k) * math.log(2.0) + math.lgamma(b + k) - math.lgamma(2 * b + k)
    exact += b * math.log(math.pi)
    nodes, weights = Sphere(dim).quadrature(60)
    energy = PowerSpherical(axis, k)
    assert abs(torch.logsumexp(weights.log() - energy(nodes), 0) - exact) < 1e-11
    assert energy(-torch.tensor([axis], dtype=torch.float64)).item() > 300.0


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_spherical_cauchy_integrates_to_the_area(dim):
    axis = [0.6, 0.8] + [0.0] * (dim - 1)
    nodes, weights = Sphere(dim).quadrature(80)
    energy = SphericalCauchy(axis, 0.5)
    assert abs(torch.logsumexp(weights.log() - energy(nodes), 0) - Sphere(dim).log_volume) < 1e-11
    mode = -energy(torch.tensor([axis], dtype=torch.float64)).item() - Sphere(dim).log_volume
    known = {1: -0.739264777741236, 2: -0.333799669633071, 3: 0.313229913745583}
    assert mode == pytest.approx(known[dim], abs=1e-13)


def test_dipole_on_a_spring_by_quadrature():
    energy = DipoleOnSpring(2.0, 3.0, 0.7)
    nodes, weights = parse_manifold("T1 x S2").quadrature(14)
    z = torch.linspace(-7.0, 7.0, 141, dtype=torch.float64)
    points = torch.cat((nodes.repeat_interleave(len(z), 0), z.repeat(len(nodes))[:, None]), 1)
    log_w = (weights.log()[:, None] + math.log(0.1)).expand(-1, len(z)).flatten()
    log_z = torch.logsumexp(log_w - energy(points), 0)
    assert energy.log_partition_function(1.0) == pytest.approx(float(log_z), abs=1e-9)


def test_transfer_matrix_of_the_rugged_chain():
    energy = SinesAndCosines(3, 2.0, [2, 3])
    steps = torch.arange(64, dtype=torch.float64) * (2.0 * math.pi / 64)
    grid = torch.cartesian_prod(steps, steps, steps)
    log_z = torch.logsumexp(-1.5 * energy(grid), 0) + 3 * math.log(2.0 * math.pi / 64)
    assert energy.log_partition_function(1.5) == pytest.approx(float(log_z), abs=1e-11)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: SphereMixture([[0.0, 0.0, 1.1]], 3.0), "potential.centres"),
        (lambda: SphereMixture([[0.0, 0.0, 1.0]] * 2, 3.0), "potential.centres"),
        (lambda: SphereMixture([[0.0, 0.0, 1.0]], -3.0), "potential.concentration"),
        (lambda: SphereMixture([], 3.0), "potential.centres"),
        (lambda: TorusMixture([[0.0, 0.0], [2 * math.pi, 0.0]]), "potential.centres"),
        (lambda: TorusMixture([[120.0, 60.0]]), "potential.centres"),
        (lambda: TorusCosines([[1, 0]], [1.0], [90.0]), "potential.phases"),
        (lambda: TorusMixture([[0.0, math.nan]]), "potential.centres"),
        (lambda: TorusMixture([[0.0, 1.0]], weights=[0.0]), "potential.weights"),
        (lambda: TorusCosines([[1, 0]], [1.0, 2.0], [0.0]), "potential.amplitudes"),
        (lambda: TorusCosines([[1], [1, 0]], [1.0, 2.0], [0.0, 0.0]), "potential.modes"),
        (lambda: XYRing(1, 1.0), "potential.n"),
        (lambda: Checkerboard(3, 1.0), "potential.n"),
        (lambda: PlanarArm([0.3, -0.1], [[0.0, 0.0]], 0.1), "potential.links"),
        (lambda: PlanarArm([0.3], [[0.0]], 0.1), "potential.places"),
        (lambda: PlanarArm([0.3], [[0.0, 1.0]], 0.0), "potential.width"),
        (lambda: Watson([1.0, 1.0], 2.0), "potential.axis"),
        (lambda: AxialMixture([[1.0, 0.0], [-1.0, 0.0]]), "potential.centres"),
        (lambda: PowerSpherical([1.0, 0.0], 0.0), "potential.concentration"),
        (lambda: SphericalCauchy([1.0, 0.0], 1.0), "potential.rho"),
        (lambda: DipoleOnSpring(1.0, -2.0, 0.0), "potential.stiffness"),
        (lambda: MatrixFisher([[1.0, 0.0], [0.0, 1.0]]), "potential.parameter"),
        (lambda: MatrixFisher([[1.0, 0.0, math.nan]] * 3), "potential.parameter"),
        (lambda: DipoleOnSpring(1.0, 2.0, 0.0)(torch.zeros(2, 4)), "x"),
        (lambda: SinesAndCosines(1, 2.0, [1, 1]), "potential.dim"),
        (lambda: SinesAndCosines(4, 2.0, [1]), "potential.frequencies"),
        (lambda: XYRing(3, 1.0)(torch.zeros(2, 4)), "x"),
    ],
)
def test_mistakes(make, field):
    with pytest.raises(InputError) as raised:
        make()
    assert raised.value.field == field
