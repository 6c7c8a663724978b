"""Implicit potentials on every shipped torus and sphere, 20 seeds each: `pytest -m benchmark -s`.

Nothing may diverge: every fit ends, the map does not fold, and the divergence that the fit reports
is finite and alike for all seeds. On T^2, S^2 and S^3 it is measured on a grid. In more dimensions
only the few lowest modes fit into memory and the fit says little; there it must not fail either.
"""

import math

import pytest
import torch

from helmflow.bijectors.potential_map import TorusPotentialMap
from helmflow.bijectors.potentials import FourierPotential
from helmflow.families.density.architecture import symmetries
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.potential_maps import best_potential_map
from helmflow.families.density.quadrature import integrate_on_grid
from helmflow.settings import Settings
from helmflow.skeleton.run import Run
from helmflow.streams import stream
from helmflow.system import load_system, shipped_systems
from helmflow.training.least_squares import LeastSquaresPlan
from helmflow.training.potential_fit import TemperingPlan, enforce_well_posedness, fit_potential
from manifold_fits import torus_points

pytestmark = pytest.mark.benchmark
SEEDS = range(20)
SMALL = DensityPlan(maps={"S2": ((200, 6.0, 20),), "S3": ((300, 6.0, 12),)})
"""Centres, their sharpness, and nodes per height."""

LIMITS = {
    "sphere/four_modes": 1e-5,
    "sphere/watson_s2": 1e-5,
    "sphere/vmf_s2": 1e-5,
    "sphere/four_modes_s3": 5e-3,
    "sphere/watson_s3": 1e-2,
    "sphere/vmf_s3": 1e-3,
    "sphere/orientations": 5e-2,
    "torus/unimodal": 1e-6,
    "torus/multimodal": 1e-6,
    "torus/correlated": 1e-6,
    "torus/multimodal_sharp5": 1e-2,
}
"""Divergence in nats that every seed must reach; others only have to be finite."""

TORI = [s.name for s in shipped_systems() if s.name.startswith("torus/")]
SPHERES = [s.name for s in shipped_systems() if s.name.startswith("sphere/")]


def summary(name, found):
    print(f"\n{name:<26} KL of 20 seeds: {min(found):.2e} to {max(found):.2e}")
    assert all(math.isfinite(value) for value in found)
    assert max(found) < LIMITS.get(name, math.inf)


@pytest.mark.parametrize("name", SPHERES)
def test_spheres(name):
    """As `helmflow run` fits them, with one small size, to densities turned at random."""
    system = load_system(name)
    n = system.manifold.n_coordinates
    found = []
    for seed in SEEDS:
        own = Run(name, Settings(seed=seed))
        u = Turned(system, own.budget)
        draw = torch.randn(n, n, generator=stream(seed, "turn"), dtype=torch.float64)
        u.rotation = torch.linalg.qr(draw)[0]
        fitted = best_potential_map(u, symmetries(u.manifold, u, seed), own, SMALL)
        assert fitted.least_eigenvalue > 0.0
        grid = integrate_on_grid(u, fitted.flow)
        assert abs(grid.mass - 1.0) < 1e-3
        found.append(grid.kl)
    summary(name, found)


class Turned(CheckedPotential):
    """The same density turned."""

    def __call__(self, x):
        return super().__call__(x @ self.rotation)


@pytest.mark.parametrize("name", TORI)
def test_tori(name):
    """From random coefficients, on nodes shifted at random."""
    system = load_system(name)
    manifold = system.manifold
    planar = manifold.dim == 2
    found = []
    for seed in SEEDS:
        potential = FourierPotential(manifold.dim, 6 if planar else 1.5)
        draw = torch.randn(potential.coefficients.shape, generator=stream(seed, "a"))
        potential.coefficients.data = 0.003 * draw.double()
        bijector = TorusPotentialMap(potential, manifold.dim)
        if planar:
            nodes, weights = manifold.quadrature(24)
            shift = torch.rand(2, generator=stream(seed, "shift"), dtype=torch.float64)
            nodes = manifold.exp(nodes, shift.expand_as(nodes))
        else:
            nodes = torus_points(manifold.dim, seed, 2048)(0)
            weights = torch.ones(len(nodes), dtype=torch.float64)
        target = (-system.reduced_potential(nodes)).clamp_min(-40.0)
        plan = TemperingPlan(final=LeastSquaresPlan(max_steps=10))
        fit_potential(bijector, nodes, weights, target - target.max(), plan)
        x = manifold.uniform(40_000, stream(seed, "x"))
        assert enforce_well_posedness(bijector, x).after > 0.0
        found.append(divergence(bijector, system, x))
    summary(name, found)


def divergence(bijector, system, x):
    """KL(q || p) as the mean of ``q (w - 1 - ln w)`` over uniform points x where nothing folds."""
    manifold = system.manifold
    with torch.no_grad():
        log_ratio = torch.cat([bijector.forward(part)[1] for part in x.split(4096)])
    log_q = log_ratio - manifold.log_volume
    log_w = -system.reduced_potential(x) - system.references[0].value - log_q
    return float((log_ratio.exp() * (log_w.expm1() - log_w)).mean())
