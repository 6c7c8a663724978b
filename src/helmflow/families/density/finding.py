"""What weighted samples of a flow, and a grid, say of a density."""

import math

import numpy as np

from helmflow.estimators.diagnostics import rejection_tau
from helmflow.estimators.reweighting import reweight
from helmflow.families.density.learned_flow import LearnedFlow
from helmflow.families.density.quadrature import Quadrature
from helmflow.results import Check, Observable
from helmflow.samplers.independence import IndependenceChain, independence_metropolis
from helmflow.skeleton import checks, limits
from helmflow.skeleton.checks import at_least, at_most
from helmflow.skeleton.quantity import Finding
from helmflow.skeleton.run import Run
from helmflow.skeleton.weighted import Weighted, expected_acceptance


def finding_of(
    learned: LearnedFlow,
    samples: Weighted,
    lost: float | None,
    grid: Quadrature | None,
    run: Run,
) -> Finding:
    """-ln Z with its checks, observables, and exact samples: a Metropolis chain over the others.

    ``lost``: the part of all mass that modes hold which are not sampled, None if not known.

    ``arrays``: works, points ``x`` of the flow, and the exact ``samples``.
    """
    chain = independence_metropolis(samples.log_w, run.stream("metropolis"))
    exact = grid if grid is not None and grid.converged else None
    x = samples.columns["x"].numpy()
    return Finding(
        headline=samples.estimate,
        checks=tuple(_checks(learned, samples, lost, grid, run.settings.target_error or math.inf)),
        arrays={**samples.arrays(), "x": x, "samples": x[chain.index.numpy()]},
        observables=tuple(_observables(samples, chain)),
        bounds=samples.bounds,
        # a grid sees every region: only without one can a missed mode go unnoticed
        one_sided=exact is None,
        base=learned.name,
        acceptance=chain.acceptance,
        value_exact=None if exact is None else exact.log_z,
        kl_exact=None if exact is None else exact.kl,
    )


def _checks(
    learned: LearnedFlow,
    samples: Weighted,
    lost: float | None,
    grid: Quadrature | None,
    goal: float,
) -> list[Check]:
    estimate = samples.estimate
    far = "nats; more is far away"
    judged = [
        checks.target_error(estimate, goal, "nats"),
        checks.weights_that_count(estimate.n_eff),
        at_most("KL(q || p)", divergence(samples, grid), limits.DIVERGENCE, far),
        checks.lost_modes(lost, estimate.stderr),
    ]
    if grid is None or not grid.converged:
        k, n = estimate.diagnostics.get("pareto_k", math.inf), len(samples.work)
        judged.append(checks.pareto_tail(k, n))
    else:
        # a grid knows the variance of the weights; the shape of their tail need not be guessed
        ratio = estimate.diagnostics["ess_fraction"] / grid.ess_fraction
        judged.append(at_most("ESS over that on a grid", ratio, limits.LUCK, "more is luck"))
    if learned.least_eigenvalue is not None:
        name, meaning = "least eigenvalue of the map", "positive means that it does not fold"
        judged.append(at_least(name, learned.least_eigenvalue, 0.0, meaning, hard=0.0))
    return judged if grid is None else judged + _checks_on_grid(samples, grid)


def _checks_on_grid(samples: Weighted, grid: Quadrature) -> list[Check]:
    error = max(math.hypot(samples.estimate.stderr, grid.change), 1e-12)
    difference = abs(-samples.estimate.value - grid.log_z)
    # far beyond all errors and of a size that matters: one of the two is wrong
    hard = limits.GRID.hard if difference > limits.NOTICEABLE else math.inf
    meaning = f"standard errors; steps of 2 pi/{2.0 * math.pi / grid.step:.0f}"
    off = abs(grid.mass - 1.0)
    return [
        at_most("flow on a grid", off, limits.NORMALISED, "integral minus 1"),
        at_most("ln Z on a grid", difference / error, limits.GRID.soft, meaning, hard=hard),
    ]


def divergence(samples: Weighted, grid: Quadrature | None) -> float:
    """KL(q || p) in nats: on a grid if that has converged, else as ``<w>_q + ln Z``.

    Points of infinite energy, which no weight ever counts, are left out of q and its norm.
    """
    if grid is not None and grid.converged:
        return grid.kl
    finite = samples.columns["work"][np.isfinite(samples.work)]
    share = len(finite) / len(samples.work)
    return float(finite.mean()) - math.log(share) - samples.estimate.value


def _observables(samples: Weighted, chain: IndependenceChain) -> list[Observable]:
    """Mean potential, entropy, and what Metropolis sampling makes of the weights."""
    log_w, log_z = samples.log_w, -samples.estimate.value
    mean = reweight(samples.work - samples.columns["log_q"].numpy(), log_w)
    lost = float(np.isneginf(log_w).mean())
    stderr = math.sqrt(lost * (1.0 - lost) / len(log_w))
    rejected = [Observable("samples of infinite energy", lost, stderr)]
    return [
        Observable("<u>", mean.value, mean.stderr, chain.tau_acc),
        Observable("entropy = ln Z + <u>", log_z + mean.value, mean.stderr),
        expected_acceptance(log_w),
        Observable("tau of rejections", rejection_tau(log_w), 0.0),
        *(rejected if lost > 0.0 else []),
    ]
