"""Fits of flows on tori and spheres, measured: what the benchmarks of manifolds share."""

import math
import time
from dataclasses import dataclass

import torch

from helmflow.bijectors.potential_map import SpherePotentialMap, TorusPotentialMap
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.manifolds.sphere import Sphere, spread_points
from helmflow.manifolds.torus import Torus
from helmflow.objectives import reverse_kl
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.least_squares import LeastSquaresPlan
from helmflow.training.plan import TrainingPlan
from helmflow.training.potential_fit import TemperingPlan, fit_potential
from helmflow.training.stochastic import train

S2, T2 = Sphere(2), Torus(2)
FINE = {"S2": (S2, 200), "T2": (T2, 256), "S3": (Sphere(3), 40)}


@dataclass(frozen=True)
class Row:
    """What one fit reached."""

    name: str
    parameters: int
    seconds: float
    kl: float
    ess: float


def show(row, demanded):
    print(
        f"\n{row.name:<62}{row.parameters:>6}{row.seconds:>8.1f} s   KL {row.kl:.2e}"
        f"   ESS {100 * row.ess:.6f} %   demanded {demanded}"
    )


def on_grid(flow, system):
    """KL and ESS over the base: the mean of ``w - 1 - ln w`` has no cancellation."""
    manifold, n = FINE[repr(system.manifold)]
    z, weights = manifold.quadrature(n)
    log_w = []
    for part in z.split(16_384):
        with torch.no_grad():
            x, log_det = flow.bijector.forward(part)
            log_w.append(-system.reduced_potential(x) + log_det + manifold.log_volume)
    log_w = torch.cat(log_w) - system.references[0].value
    weights = weights / weights.sum()
    assert abs(float(weights @ log_w.exp()) - 1.0) < 1e-4
    return float(weights @ (log_w.expm1() - log_w)), 1.0 / float(weights @ (2.0 * log_w).exp())


def on_target_grid(bijector, system):
    """The same on target nodes, for maps whose inverse is the explicit direction."""
    manifold, n = FINE[repr(system.manifold)]
    x, weights = manifold.quadrature(n)
    with torch.no_grad():
        log_det = torch.cat([bijector.forward(part)[1] for part in x.split(16_384)])
    log_q = log_det - manifold.log_volume
    assert torch.isfinite(log_q).all()
    q = weights * log_q.exp()
    assert abs(float(q.sum()) - 1.0) < 1e-9
    log_w = -system.reduced_potential(x) - system.references[0].value - log_q
    return float(q @ (log_w.expm1() - log_w)), 1.0 / float(q @ (2.0 * log_w).exp())


def implicit(name, potential, n_nodes, rotation=None, max_steps=60):
    """Fit an implicit potential map and measure it."""
    system = load_system(name)
    manifold = system.manifold
    kind = TorusPotentialMap if isinstance(manifold, Torus) else SpherePotentialMap
    bijector = kind(potential, manifold.dim)
    nodes, weights = manifold.quadrature(n_nodes)
    if rotation is not None:
        nodes = nodes @ rotation
    clock = time.process_time()
    plan = TemperingPlan(final=LeastSquaresPlan(max_steps=max_steps))
    fit_potential(bijector, nodes, weights, -system.reduced_potential(nodes), plan)
    seconds = time.process_time() - clock
    kl, ess = on_target_grid(bijector, system)
    n = len(potential.coefficients)
    return Row(f"{name}: implicit potential", n, seconds, kl, ess), bijector


def trained(name, bijector, steps, refine, seed=0, label="", rate=1e-2):
    """Adam on the reverse divergence, then what ``refine`` does; measured on the grid."""
    system = load_system(name)
    flow = Flow(Uniform(system.manifold), bijector)
    u = system.reduced_potential
    clock = time.process_time()
    plan = TrainingPlan(steps, 512, rate, clip_norm=5.0)
    train(flow, lambda n, g: reverse_kl(flow, u, n, g), plan, stream(seed, "training"))
    refine(flow, u)
    seconds = time.process_time() - clock
    parameters = sum(p.numel() for p in bijector.parameters() if p.requires_grad)
    return Row(f"{name}: {label}, seed {seed}", parameters, seconds, *measure(flow, system))


def measure(flow, system):
    if repr(system.manifold) in FINE:
        return on_grid(flow, system)
    log_w, generator = [], stream(7, "measure")
    for _ in range(16):
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(8192, generator)
        log_w.append(-system.reduced_potential(x) - log_q - system.references[0].value)
    log_w = torch.cat(log_w)
    return float((log_w.expm1() - log_w).mean()), 1.0 / float((2.0 * log_w).exp().mean())


def sphere_points(step, n=1024):
    turn = torch.randn(3, 3, generator=stream(step, "turn"), dtype=torch.float64)
    return spread_points(S2, n, stream(0, "unused")) @ torch.linalg.qr(turn)[0]


def torus_points(dim, seed=1, n=1024):
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)
    return lambda _: 2.0 * math.pi * engine.draw(n, dtype=torch.float64)
