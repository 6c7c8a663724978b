"""Flows that are trained: for manifolds of more dimensions than a potential can cover."""

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import Generator, Tensor

from helmflow.densities.flow import Flow
from helmflow.families.density.architecture import Architecture, untrained
from helmflow.families.density.learned_flow import LearnedFlow
from helmflow.families.density.neighbours import elimination, interactions
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.potential import CheckedPotential
from helmflow.generalised_work import density_work
from helmflow.manifolds.base import Manifold
from helmflow.objectives.divergences import reverse_kl
from helmflow.shapes import Configs
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.run import Run, Stage
from helmflow.training.flow_fit import natural_gradient
from helmflow.training.replay import fit_with_replay
from helmflow.training.stochastic import train

Train = Callable[[Flow, Generator], object]
"""One stage of a training, in place."""

ARCHITECTURE = Form[Architecture](
    lambda architecture: Kept(facts=asdict(architecture)),
    lambda kept: Architecture(**kept.facts),
)


def trained_flow(
    u: CheckedPotential, start: Architecture, run: Run, plan: DensityPlan
) -> LearnedFlow:
    """A trained flow and half the variance of its work.

    First Adam on the reverse divergence, up to `DensityPlan.most_angles` and where the energy has
    a gradient. If that has come close, natural-gradient steps; if not, a flow of splines is
    trained by replay within a trust region, which loses no mode and asks for values alone.
    The run keeps the flow after every stage, each with random numbers of its own.
    Raises InputError for manifolds without such a flow.
    """
    flow, name = untrained(u.manifold, start, run.settings.seed)
    many = u.manifold.n_angles > plan.most_angles and start.angles == "given"
    blind = many or not u.has_gradient(_base_samples(flow, 32, run.stream("gradient")))
    powers = () if blind else plan.powers
    for k, power in enumerate(powers):
        told = (0.2 * k / len(powers), f"{name}, target to the power {power}")
        _keep_trained(flow, _descent(u, power, plan), k + 1, run, told)

    def choose(_: Stage) -> Architecture:
        if not blind and half_variance(flow, u, run.stream("half way")) < plan.close:
            return start
        run.tell("flow", 0.2, 1.0, "choosing among angles")
        return _choose(u, start, run, plan)

    architecture = run.once("architecture", choose, ARCHITECTURE)
    if architecture == start:
        steps, first = _refinements(u, plan), len(powers) + 1
    else:
        flow, name = untrained(u.manifold, architecture, run.settings.seed)
        steps, first = _replays(u, plan), len(powers) + 2
    for k, step in enumerate(steps):
        told = (0.4 + 0.6 * k / len(steps), name)
        _keep_trained(flow, step, first + k, run, told)
    flow.requires_grad_(requires_grad=False)
    loss = half_variance(flow, u, run.stream("the end"))
    return LearnedFlow(flow, name, loss, None, architecture)


def _keep_trained(flow: Flow, step: Train, number: int, run: Run, told: tuple[float, str]) -> None:
    """Train a flow in place, or give it the parameters that the run has kept after this stage.

    ``told``: the fraction done and what is being done.
    """

    def make(_: Stage) -> Flow:
        run.tell("flow", told[0], 1.0, told[1])
        step(flow, run.stream(f"stage {number}"))
        return flow

    def unpack(kept: Kept) -> Flow:
        flow.bijector.load_state_dict(dict(kept.tensors))
        return flow

    form = Form(lambda trained: Kept(dict(trained.bijector.state_dict())), unpack)
    run.once(f"training {number}", make, form)


def _choose(u: CheckedPotential, start: Architecture, run: Run, plan: DensityPlan) -> Architecture:
    """Splines of the angles as they are or of their sums: whichever is learned faster.

    Where the energy couples only some of the angles, each given only those it depends on.
    """
    manifold, splines = u.manifold, replace(start, splines=True)
    if manifold.n_angles < 3 or start.angles != "given":
        return splines
    order, seen = elimination(interactions(manifold, u, run.stream("pairs")))
    if max(len(others) for others in seen) < manifold.dim - 1:
        return replace(splines, order=order, seen=seen)

    def mean_work(architecture: Architecture) -> float:
        flow, _ = untrained(manifold, architecture, run.settings.seed)
        fit_with_replay(flow, u, plan.contest, run.stream("contest"))
        return float(_works(flow, u, run.stream("judge")).mean())

    return min((replace(splines, angles=angles) for angles in ("given", "sums")), key=mean_work)


def _descent(u: CheckedPotential, power: float, plan: DensityPlan) -> Train:
    """Adam on the reverse divergence from the target to a power."""

    def step(flow: Flow, generator: Generator) -> None:
        def loss(n: int, g: Generator) -> Tensor:
            return reverse_kl(flow, lambda x: power * u.differentiable(x), n, g)

        train(flow, loss, plan.descent, generator)

    return step


def _refinements(u: CheckedPotential, plan: DensityPlan) -> list[Train]:
    """Natural-gradient steps, from one damping to the next."""

    def step_between(damping: tuple[float, float]) -> Train:
        def step(flow: Flow, generator: Generator) -> None:
            points = base_points(flow, u.manifold, plan.points, generator)
            natural_gradient(flow, u.differentiable, points, plan.refinements, damping=damping)

        return step

    return [step_between(pair) for pair in itertools.pairwise(plan.damping)]


def _replays(u: CheckedPotential, plan: DensityPlan) -> list[Train]:
    """Replay, with a learning rate that falls in the last stage only."""

    def step_to(floor: float) -> Train:
        schedule = replace(plan.replay.schedule, floor=floor)
        stage = replace(plan.replay, schedule=schedule)
        return lambda flow, generator: fit_with_replay(flow, u, stage, generator)

    return [step_to(1.0)] * (plan.replays - 1) + [step_to(0.03)]


def base_points(
    flow: Flow, manifold: Manifold, n: int, generator: Generator
) -> Callable[[int], Configs]:
    """Fresh base points at every call: quasi-random on a torus."""
    if not manifold.n_angles:
        return lambda _: _base_samples(flow, n, generator)
    seed = int(torch.randint(2**31, (), generator=generator))
    engine = torch.quasirandom.SobolEngine(manifold.dim, scramble=True, seed=seed)
    return lambda _: 2.0 * math.pi * engine.draw(n, dtype=torch.float64)


def _base_samples(flow: Flow, n: int, generator: Generator) -> Configs:
    return flow.base.sample_and_log_prob(n, generator)[0]


def half_variance(flow: Flow, u: CheckedPotential, generator: Generator) -> float:
    """Half the variance of the work of fresh samples, infinite if one is."""
    work = _works(flow, u, generator)
    return 0.5 * float(work.var()) if bool(torch.isfinite(work).all()) else math.inf


def _works(flow: Flow, u: CheckedPotential, generator: Generator) -> Tensor:
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(4096, generator)
        return density_work(x, log_q, u)
