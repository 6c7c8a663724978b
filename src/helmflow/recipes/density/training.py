"""Flows that are trained: for manifolds of more dimensions than a potential can cover."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, Chain
from helmflow.bijectors.sphere_flows import RecursiveSphere, SphereRotation
from helmflow.bijectors.torus_flows import TorusAutoregressive, circle_map
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import Sphere
from helmflow.manifolds.torus import Torus
from helmflow.objectives.divergences import reverse_kl
from helmflow.shapes import Configs
from helmflow.training.flow_fit import natural_gradient
from helmflow.training.plan import TrainingPlan
from helmflow.training.stochastic import train

STEPS, BATCH, LEARNING_RATE = 80, 256, 1e-2
"""Of each stage of the first phase, Adam on the reverse divergence."""

POWERS = (0.1, 0.3, 0.6, 1.0)
"""Of the target in these stages: a flow that starts out wide loses fewer modes."""

REFINEMENTS, POINTS = 60, 1024
"""Natural-gradient steps of the second phase, and fresh points at each."""

CLOSE = 2.0
"""Half the variance of the work, in nats, below which second-order steps are of use."""

MORE_STEPS = 600
"""Of Adam, for a flow that is not yet that close."""

DAMPING = (1e-1, 3e-4)


def trained_flow(
    manifold: Manifold,
    u: ReducedPotential,
    generator: torch.Generator,
    report: Callable[[float, str], None],
) -> tuple[Flow, str, float]:
    """A flow fitted in two phases, what to call it, and half the variance of its work.

    ``u`` must be differentiable. Raises InputError for manifolds without such a flow.
    """
    bijector, name = _untrained(manifold, u, generator)
    flow = Flow(Uniform(manifold), bijector)

    plan = TrainingPlan(STEPS, BATCH, LEARNING_RATE, clip_norm=5.0)
    for k, power in enumerate(POWERS):
        report(0.3 * k / len(POWERS), f"{name}, target to the power {power}")
        tempered = _power(u, power)
        train(flow, partial(_reverse_kl, flow, tempered), plan, generator)

    def refined(step: int, loss: float, _: float) -> None:
        report(0.3 + 0.7 * step / REFINEMENTS, f"{name}, half variance {loss:.3g}")

    points = _points(manifold, generator)
    loss = half_variance(flow, u, next(points))
    if not loss < CLOSE:
        report(0.3, f"{name}, half variance {loss:.3g}, more of the first phase")
        longer = TrainingPlan(MORE_STEPS, BATCH, 0.5 * LEARNING_RATE, clip_norm=5.0)
        train(flow, partial(_reverse_kl, flow, u), longer, generator)
        loss = half_variance(flow, u, next(points))
    if not loss < CLOSE:
        flow.requires_grad_(requires_grad=False)
        return flow, name, loss
    loss = natural_gradient(
        flow, u, lambda _: next(points), REFINEMENTS, damping=DAMPING, report=refined
    )
    flow.requires_grad_(requires_grad=False)
    return flow, name, loss


def half_variance(flow: Flow, u: ReducedPotential, z: Configs) -> float:
    """Half the variance of the work of base points z (N, *event), about KL(q || p) if small."""
    with torch.no_grad():
        x, log_det = flow.bijector.forward(z)
        return 0.5 * float((u(x) - log_det).var())


def _power(u: ReducedPotential, power: float) -> ReducedPotential:
    return lambda x: power * u(x)


def _reverse_kl(flow: Flow, u: ReducedPotential, n: int, generator: torch.Generator) -> Tensor:
    return reverse_kl(flow, u, n, generator)


def _untrained(
    manifold: Manifold, u: ReducedPotential, generator: torch.Generator
) -> tuple[Bijector, str]:
    dim = manifold.dim
    if isinstance(manifold, Torus):
        relative = dim > 2 and _turns(manifold, u, generator)
        orders = [list(range(dim))]
        if not relative:
            orders.append(orders[0][::-1])
        layers = [
            TorusAutoregressive(
                dim, circle_map(5), [16], order=order, relative=relative, generator=generator
            )
            for order in orders
        ]
        kind = "relative angles, " if relative else ""
        return Chain(layers), f"autoregressive flow, {kind}{len(layers)} layers"
    if isinstance(manifold, Sphere) and dim > 1:
        chain: list[Bijector] = []
        for _ in range(2):
            chain += [
                SphereRotation(dim, generator),
                RecursiveSphere(dim, circle_map(8), [24], generator=generator),
            ]
        return Chain(chain), "recursive Moebius-spline flow, 2 layers"
    raise InputError("manifold", "a torus T1, T2, ... or a sphere S2, S3, ...", repr(manifold))


def _turns(torus: Torus, u: ReducedPotential, generator: torch.Generator) -> bool:
    """Whether the energy stays the same when all angles turn together."""
    x = torus.uniform(32, generator)
    with torch.no_grad():
        change = u(torus.exp(x, torch.ones_like(x))) - u(x)
    return bool((change.abs() < 1e-9).all())


def _points(manifold: Manifold, generator: torch.Generator) -> Iterator[Configs]:
    """Fresh base points: quasi-random on a torus."""
    if isinstance(manifold, Torus):
        seed = int(torch.randint(2**31, (), generator=generator))
        engine = torch.quasirandom.SobolEngine(manifold.dim, scramble=True, seed=seed)
        while True:
            unit = engine.draw(POINTS, dtype=torch.float64)
            yield manifold.exp(2.0 * math.pi * unit, torch.zeros_like(unit))
    while True:
        yield manifold.uniform(POINTS, generator)
