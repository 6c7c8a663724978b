"""Flows on tori and spheres against published divergences: `pytest -m benchmark -s` prints rows.

Every row is one target and one family: parameters, processor seconds of the fit (one thread,
float64), KL(q || p) and effective sample size. On T^2, S^2 and S^3 both are integrals over a grid
that is finer than, and different from, the nodes of the fit; on the ring of 16 rotors they are
means of ``w - 1 - ln w`` over 131072 samples with the exact ln Z. Published: 3e-3 and 99.3 % on
the four modes of S^2 (doi:10.48550/arXiv.2106.10272), 5e-2 for Moebius-spline flows
(doi:10.48550/arXiv.2002.02428).
"""

import math
import time
from functools import partial

import pytest
import torch

from benchmarks.competitors.explicit_potentials import (
    PolynomialPotential,
    RadialSumPotential,
    SoftMinPotential,
)
from benchmarks.competitors.ring_tree import RingTree
from helmflow.bijectors.base import Chain, Inverse
from helmflow.bijectors.hamiltonian import HamiltonianFlow
from helmflow.bijectors.potential_map import SpherePotentialMap, TorusPotentialMap
from helmflow.bijectors.potentials import FourierPotential, RadialPotential
from helmflow.bijectors.sphere_flows import RecursiveSphere, SphereRotation
from helmflow.bijectors.torus_flows import TorusAutoregressive, circle_map
from helmflow.densities.flow import Flow
from helmflow.densities.phase_space import Cotangent
from helmflow.manifolds.sphere import Sphere, spread_points
from helmflow.manifolds.torus import Torus
from helmflow.nets.mlp import Conditioner, Mlp
from helmflow.objectives import reverse_kl
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.flow_fit import natural_gradient, refine_flow
from helmflow.training.least_squares import LeastSquaresPlan
from helmflow.training.plan import TrainingPlan
from helmflow.training.potential_fit import TemperingPlan, fit_potential
from helmflow.training.stochastic import train
from manifold_fits import (
    S2,
    T2,
    Row,
    implicit,
    show,
    sphere_points,
    torus_points,
    trained,
)

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize("size", [(50, 3.0, 16), (100, 4.0, 16), (200, 6.0, 20), (400, 10.0, 40)])
def test_four_modes_implicit_potential_by_size(size):
    """Accuracy is spectral in the number of centres."""
    n, sharpness, nodes = size
    potential = RadialPotential(spread_points(S2, n, stream(0, "c")), sharpness)
    row, _ = implicit("sphere/four_modes", potential, nodes)
    show(row, {50: "3e-3", 100: "2e-4", 200: "1e-5", 400: "1e-7"}[n])
    assert row.kl < {50: 3e-3, 100: 2e-4, 200: 1e-5, 400: 1e-7}[n]
    assert row.seconds < 60.0


def test_four_modes_implicit_potential():
    potential = RadialPotential(spread_points(S2, 600, stream(0, "c")), 13.0)
    row, bijector = implicit("sphere/four_modes", potential, 44)
    show(row, "1e-7, 99.9999 %, 60 s")
    assert row.kl <= 1e-7
    assert row.ess >= 0.999999
    assert row.seconds <= 60.0
    x = S2.uniform(2000, stream(1, "x"))
    with torch.no_grad():
        y, log_det = Inverse(bijector).forward(x)
        again, log_back = bijector.forward(y)
    assert S2.distance(again, x).max() < 1e-12
    assert (log_det + log_back).abs().max() < 1e-10


@pytest.mark.parametrize(
    ("name", "radius", "nodes", "limit"),
    [
        ("torus/unimodal", 10, 32, 1e-9),
        ("torus/multimodal", 10, 32, 1e-9),
        ("torus/correlated", 10, 32, 1e-9),
        ("torus/multimodal_sharp5", 16, 48, 1e-8),
    ],
)
def test_torus_implicit_potential(name, radius, nodes, limit):
    row, _ = implicit(name, FourierPotential(2, radius), nodes)
    show(row, f"{limit:.0e}")
    assert row.kl <= limit


def test_four_modes_on_the_three_sphere():
    centres = spread_points(Sphere(3), 700, stream(0, "c"))
    row, _ = implicit("sphere/four_modes_s3", RadialPotential(centres, 8.0), 16, max_steps=30)
    show(row, "2e-5")
    assert row.kl <= 2e-5


def test_four_modes_recursive_moebius_spline():
    g = stream(0, "flow")
    layers = []
    for _ in range(2):
        layers += [SphereRotation(2, g), RecursiveSphere(2, circle_map(8), Conditioner([24], g))]

    def refine(flow, u):
        natural_gradient(flow, u, sphere_points, 60, damping=(1e-1, 1e-4))

    row = trained("sphere/four_modes", Chain(layers), 300, refine, label="Moebius-spline x 2")
    show(row, "3e-3, 300 s")
    assert row.kl <= 3e-3
    assert row.seconds <= 300.0


def test_four_modes_soft_min():
    g = stream(0, "flow")
    layers = []
    for _ in range(3):
        points = spread_points(S2, 48, g) @ SphereRotation(2, g).matrix().detach()
        heights = 0.01 * torch.rand(48, generator=g, dtype=torch.float64)
        layers.append(SpherePotentialMap(SoftMinPotential(points, heights), 2))

    def refine(flow, u):
        points = partial(sphere_points, n=2048)
        natural_gradient(flow, u, points, 120, damping=(1e-1, 1e-4))

    row = trained(
        "sphere/four_modes", Chain(layers), 600, refine, label="soft-min 3 x 48", rate=5e-3
    )
    show(row, "2e-3, 300 s")
    assert row.kl <= 2e-3
    assert row.seconds <= 300.0


@pytest.mark.parametrize("family", ["radial sum 6 x 5", "polynomial"])
def test_families_that_do_badly(family):
    """They have their rows too: published 0.19 and 0.50."""
    g = stream(0, "flow")
    if family == "polynomial":
        layers = [SpherePotentialMap(PolynomialPotential(2), 2)]
    else:
        layers = [SpherePotentialMap(RadialSumPotential(S2.uniform(5, g)), 2) for _ in range(6)]

    def refine(flow, u):
        natural_gradient(flow, u, sphere_points, 20)

    row = trained("sphere/four_modes", Chain(layers), 400, refine, label=family)
    show(row, "none")
    assert row.kl < 0.7


class Landscape(torch.nn.Module):
    """V(q) of angles or of unit vectors."""

    def __init__(self, n, angles, generator):
        super().__init__()
        self.angles = angles
        n_in = 2 * n if angles else n
        self.net = Mlp((n_in, 24, 24, 1), activation=torch.nn.Tanh, generator=generator)

    def forward(self, q):
        return self.net(torch.cat((q.cos(), q.sin()), -1) if self.angles else q)[:, 0]


@pytest.mark.parametrize("name", ["torus/multimodal", "sphere/four_modes"])
def test_hamiltonian_flows(name):
    """Positions and momenta together: KL of both, which bounds that of the positions."""
    system = load_system(name)
    manifold = system.manifold
    n, g = manifold.n_coordinates, stream(0, "net")
    angles = isinstance(manifold, Torus)
    steps = [
        HamiltonianFlow(manifold, Landscape(n, angles, g), step=0.4, n_steps=3) for _ in range(3)
    ]
    flow = Flow(Cotangent(manifold), Chain(steps))

    def u(x):
        q, p = x.split(n, -1)
        momenta = 0.5 * p.square().sum(-1) + 0.5 * manifold.dim * math.log(2.0 * math.pi)
        return system.reduced_potential(q) + momenta

    clock = time.process_time()
    plan = TrainingPlan(400, 256, 1e-2, clip_norm=5.0)
    train(flow, lambda n, g: reverse_kl(flow, u, n, g), plan, stream(0, "training"))
    seconds = time.process_time() - clock
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(40_000, stream(7, "measure"))
        log_w = -u(x) - log_q - system.references[0].value
    kl = float((log_w.expm1() - log_w).mean())
    ess = 1.0 / float((2.0 * log_w).exp().mean())
    size = sum(p.numel() for p in flow.parameters())
    show(Row(f"{name}: Hamiltonian x 3, positions and momenta", size, seconds, kl, ess), "none")
    assert kl < (0.08 if angles else 1.06)  # those of the identity


@pytest.mark.parametrize(
    ("name", "centres", "hidden", "limit"),
    [("torus/multimodal", 5, 12, 1e-8), ("torus/multimodal_sharp5", 8, 16, 1e-3)],
)
def test_torus_autoregressive(name, centres, hidden, limit):
    g = stream(0, "net")
    layers = [
        TorusAutoregressive(2, circle_map(centres), Conditioner([hidden], g), order=order)
        for order in ([0, 1], [1, 0])
    ]

    def refine(flow, u):
        natural_gradient(flow, u, torus_points(2), 20, damping=(1e-1, 1e-4))
        z = T2.quadrature(48)[0] + 0.37 * 2.0 * math.pi / 48
        refine_flow(flow, u, z, LeastSquaresPlan(80, tolerance=1e-2, patience=8))

    row = trained(name, Chain(layers), 300, refine, label="autoregressive x 2")
    show(row, f"{limit:.0e}")
    assert row.kl <= limit


def test_ring_of_rotors_generic():
    net = Conditioner([16], stream(0, "net"))
    flow = TorusAutoregressive(16, circle_map(4), net, relative=True)

    def refine(flow, u):
        natural_gradient(flow, u, torus_points(16), 80, damping=(1e-1, 3e-4))

    row = trained("torus/xy_ring_16", flow, 200, refine, label="autoregressive, relative")
    show(row, "5e-4")
    assert row.kl <= 5e-4


def test_ring_of_rotors_tree():
    tree = RingTree(16, circle_map(6), [16], generator=stream(0, "net"))

    def refine(flow, u):
        z = torus_points(16, n=4096)(0)
        refine_flow(flow, u, z, LeastSquaresPlan(100, tolerance=1e-2, patience=8))

    row = trained("torus/xy_ring_16", tree, 300, refine, label="tree of relative angles")
    show(row, "1e-7")
    assert row.kl <= 1e-7


@pytest.mark.parametrize("radius", [2, 3, 4, 5])
def test_where_a_fixed_basis_stops(radius):
    """The same ring in three dimensions: the basis grows with the cube of its radius."""
    from helmflow.energies.torus import XYRing

    potential = FourierPotential(3, radius)
    bijector = TorusPotentialMap(potential, 3)
    nodes, weights = bijector.manifold.quadrature(2 * radius + 4)
    energy = XYRing(3, 1.0)
    clock = time.process_time()
    plan = TemperingPlan(final=LeastSquaresPlan(20))
    fit_potential(bijector, nodes, weights, -energy(nodes), plan)
    seconds = time.process_time() - clock
    fine, w = bijector.manifold.quadrature(31)
    with torch.no_grad():
        log_q = torch.cat([bijector.forward(part)[1] for part in fine.split(16_384)])
    log_q = log_q - bijector.manifold.log_volume
    log_w = -energy(fine) - 6.3872063687718 - log_q
    q = w * log_q.exp()
    kl, ess = float(q @ (log_w.expm1() - log_w)), 1.0 / float(q @ (2.0 * log_w).exp())
    row = Row(f"XY ring of 3, radius {radius}", len(potential.coefficients), seconds, kl, ess)
    show(row, "falls with radius")
    assert kl < {2: 0.2, 3: 0.02, 4: 1e-2, 5: 1e-3}[radius]
