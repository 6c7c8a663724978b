"""Checks that only a flow needs: of its log-determinant, and against samples without it."""

import math

import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.bijectors.fixed_step import ScoredFlow
from helmflow.densities.base import Density
from helmflow.densities.gaussian import Gaussian
from helmflow.estimators.diagnostics import forward_ess
from helmflow.estimators.reweighting import kish_ess
from helmflow.families.flow import field_flow
from helmflow.families.flow.prepare import PreparedFlow
from helmflow.families.flow.transport import integrator_bias
from helmflow.families.path.analysis import Analysis
from helmflow.families.path.problem import Problem
from helmflow.manifolds.symmetry import SymmetryGroup
from helmflow.results import Check
from helmflow.skeleton.checks import agreement, deterministic, integrator, modes_of_the_chains
from helmflow.skeleton.limits import EXACT
from helmflow.skeleton.run import Run

LARGEST_JACOBIAN, LARGEST_DIVERGENCE = 700, 3500
"""Dimensions up to which the whole Jacobian, or every term of a divergence, is compared; above,
random directions."""

PROBES, PARTNERS = 512, 32
"""Random directions, and samples that are compared with their symmetry partners."""

PARTNERS_APART = 5.0
"""Largest difference of ln q between equivalent configurations, kT."""

DIVERGENCE_AT = (0.5, 1.0)
"""Values of lambda."""

STEP = 1e-5
"""Of central differences, in standard deviations of the base."""


def flow_checks(
    prepared: PreparedFlow,
    analysis: Analysis,
    problem: Problem,
    base: Gaussian,
    run: Run,
    goal: float,
) -> list[Check]:
    """What an effective sample size cannot see: a wrong log-determinant, a biased integrator."""
    made, seed = prepared.made, run.settings.seed
    checks = [agreement("flow against integration", prepared.path.estimate, analysis.headline)]
    generator = run.stream("log-determinant")
    if base.dim <= LARGEST_JACOBIAN:
        u = base.sample(1, generator)
        error, meaning = abs(log_det_error(made.bijector, base, u)), "kT, against the Jacobian"
        checks.append(deterministic("log-determinant", error, 0.5 * goal, meaning))
    elif made.transport is not None and base.dim <= LARGEST_DIVERGENCE:
        error = divergence_error(made.transport, base, generator)
        meaning = "kT, against the Jacobian's trace"
        checks.append(deterministic("divergence", error, 0.5 * goal, meaning))
    elif made.transport is not None:
        z_score = probed_divergence(made.transport, base, generator)
        meaning = "standard errors, random directions"
        checks.append(deterministic("divergence", z_score, EXACT.soft, meaning))
    spread = partner_spread(made.density, problem.symmetry, generator)
    meaning = "kT, rms of ln q"
    checks.append(deterministic("symmetry partners", spread, PARTNERS_APART, meaning))
    if made.transport is not None:
        checks.append(integrator(integrator_bias(made.transport, problem, base, seed + 1), goal))
    if problem.noun == "field":
        drawn, chains = (-work.ravel() for work in analysis.samples.work)
        ratio = forward_ess(chains) / len(chains) / (kish_ess(drawn) / len(drawn))
        checks.append(modes_of_the_chains(ratio))
    if isinstance(made.bijector, ScoredFlow):
        bias = field_flow.integrator_bias(made.density, problem, seed + 1)
        checks.append(integrator(bias, goal, "nats, on doubling the steps"))
    return checks


def log_det_error(bijector: Bijector, base: Gaussian, u: Tensor) -> float:
    """Claimed log-determinant at u (1, n) minus that of the Jacobian by central differences."""
    z = base.whiten(u)
    active = _active(base)
    shifts = STEP * torch.eye(len(base.precision), dtype=torch.float64)[active]
    columns = []
    for part in shifts.split(128):
        ahead, behind = (
            base.whiten(bijector.forward(base.colour(z + sign * part))[0]) for sign in (1, -1)
        )
        columns.append((ahead - behind)[:, active] / (2.0 * STEP))
    log_det = torch.linalg.slogdet(torch.cat(columns)).logabsdet
    return (bijector.forward(u)[1][0] - log_det).item()


def divergence_error(flow: FittedFlow, base: Gaussian, generator: Generator) -> float:
    """Largest claimed minus measured divergence at a few points along the path.

    The measured one is the sum of all diagonal elements of the Jacobian by central differences.
    """
    largest = 0.0
    for lam in DIVERGENCE_AT:
        z = base.noise(1, generator)
        total = 0.0
        for part in torch.nonzero(_active(base))[:, 0].split(128):
            row = torch.arange(len(part))
            moved = z.repeat(len(part), 1)
            ends = []
            for sign in (1.0, -1.0):
                shifted = moved.clone()
                shifted[row, part] += sign * STEP
                ends.append(flow.velocity(shifted, lam)[0][row, part])
            total += ((ends[0] - ends[1]) / (2.0 * STEP)).sum().item()
        largest = max(largest, abs(flow.velocity(z, lam)[1].item() - total))
    return largest


def probed_divergence(flow: FittedFlow, base: Gaussian, generator: Generator) -> float:
    """Mean of claimed minus measured divergence, in standard errors.

    E[v . (J v)] over random v is the trace of J (Hutchinson); along a direction J is a central
    difference. Each probe has its own configuration and lambda.
    """
    differences = []
    for _ in range(PROBES // 64):
        lam = torch.rand((), generator=generator, dtype=torch.float64).item()
        z, v = base.noise(64, generator), base.noise(64, generator).sign()
        ahead, behind = (flow.velocity(z + sign * STEP * v, lam)[0] for sign in (1.0, -1.0))
        measured = ((ahead - behind) * v).sum(1) / (2.0 * STEP)
        differences.append(flow.velocity(z, lam)[1] - measured)
    errors = torch.cat(differences)
    return abs(errors.mean() / (errors.std() / math.sqrt(len(errors)))).item()


def partner_spread(flow: Density, group: SymmetryGroup, generator: Generator) -> float:
    """Root mean square of ln q(g x) - ln q(x) over samples x and symmetry operations g.

    The target has the same density at both, so a flow that has found one of several equivalent
    places, and not the others, shows here.
    """
    u, _ = flow.sample_and_log_prob(PARTNERS, generator)
    operations = (
        torch.randint(size, (PARTNERS,), generator=generator).tolist()
        for size in (len(group.translations), len(group.rotations))
    )
    d = group.rotations.shape[1]
    moved = torch.empty_like(u).view(PARTNERS, -1, d)
    for k, (shift, turn) in enumerate(zip(*operations, strict=True)):
        sites = torch.from_numpy(group.translations[shift][group.permutations[turn]])
        rotation = torch.from_numpy(group.rotations[turn])
        moved[k, sites] = u[k].view(-1, d) @ rotation.T
    change = flow.log_prob(moved.view(PARTNERS, -1)) - flow.log_prob(u)
    return change.square().mean().sqrt().item()


def _active(base: Gaussian) -> Tensor:
    """Components of z that are not idle."""
    idle = base.noise(1, torch.Generator().manual_seed(0))[0] == 0.0
    return ~idle
