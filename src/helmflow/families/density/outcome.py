"""From weighed samples of a flow to the result a person reads."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from helmflow.estimators.diagnostics import rejection_tau
from helmflow.estimators.reweighting import reweight
from helmflow.families.path.certificate import at_least, at_most
from helmflow.families.weighted_results import (
    bounds_of,
    expected_acceptance,
    precision_checks,
    references_of,
    row_of,
    tail_check,
)
from helmflow.results import Check, Cost, Observable, Result, grade
from helmflow.samplers.independence import IndependenceChain, independence_metropolis
from helmflow.settings import Settings
from helmflow.streams import stream
from helmflow.system import System

if TYPE_CHECKING:
    from helmflow.families.density.potential_maps import FittedFlow
    from helmflow.families.density.quadrature import Quadrature
    from helmflow.families.density.weighing import Weighed

Array = np.ndarray

FAR = 1.0
"""Divergence in nats above which a flow has not learned its target, however good the weights."""

HOPELESS, NOTICEABLE = 10.0, 0.01
"""Standard errors, and nats, from the grid's ln Z beyond both of which a run is wrong."""


def result_of_density(
    system: System,
    settings: Settings,
    fitted: "FittedFlow",
    weighed: "Weighed",
    quadrature: "Quadrature | None",
    n_evaluations: int,
    spent: tuple[float, float],
) -> tuple[Result, IndependenceChain]:
    """The result with its certificate, and the Metropolis chain over the samples."""
    estimate = weighed.estimate
    log_w = -weighed.work.numpy()
    chain = independence_metropolis(log_w, stream(settings.seed, "metropolis"))
    exact = quadrature if quadrature is not None and quadrature.converged else None
    checks = _checks(settings, fitted, weighed, quadrature)
    # a grid sees every region: only without one can a missed mode go unnoticed
    letter, reason = grade(checks, one_sided=exact is None)
    value, stderr = -estimate.value, estimate.stderr
    result = Result(
        system=system.name,
        quantity="log_partition_function",
        value=value,
        stderr=stderr,
        unit="nat",
        per="system",
        convention=system.convention,
        method="fep",
        base=fitted.name,
        grade=letter,
        reason=reason,
        checks=tuple(checks),
        estimates=(row_of("fep", estimate),),
        references=references_of(system, value, stderr),
        bounds=bounds_of(weighed.work.numpy()),
        observables=tuple(_observables(weighed, log_w, value, chain)),
        acceptance=chain.acceptance,
        value_exact=None if exact is None else exact.log_z,
        kl_exact=None if exact is None else exact.kl,
        cost=Cost(spent[0], spent[1], n_evaluations),
        seed=settings.seed,
    )
    return result, chain


def _checks(
    settings: Settings,
    fitted: "FittedFlow",
    weighed: "Weighed",
    quadrature: "Quadrature | None",
) -> list[Check]:
    estimate = weighed.estimate
    goal = math.inf if settings.target_error is None else settings.target_error
    checks = [
        *precision_checks(estimate, goal),
        at_most("KL(q || p)", _divergence(weighed, quadrature), FAR, "nats; more is far away"),
    ]
    if quadrature is None or not quadrature.converged:
        checks.append(tail_check(estimate))
    else:
        # a grid knows the variance of the weights; the shape of their tail need not be guessed
        ratio = estimate.diagnostics["ess_fraction"] / quadrature.ess_fraction
        checks.append(at_most("ESS over that on a grid", ratio, 1.2, "more is luck"))
    if fitted.least_eigenvalue is not None:
        checks.append(
            at_least(
                "least eigenvalue of the map",
                fitted.least_eigenvalue,
                0.0,
                "positive means that it does not fold",
                hard=0.0,
            )
        )
    if quadrature is not None:
        error = max(math.hypot(estimate.stderr, quadrature.change), 1e-12)
        difference = abs(-estimate.value - quadrature.log_z)
        # far beyond all errors and of a size that matters: one of the two is wrong
        hard = HOPELESS if difference > NOTICEABLE else math.inf
        meaning = f"standard errors; steps of 2 pi/{2.0 * math.pi / quadrature.step:.0f}"
        checks += [
            at_most("flow on a grid", abs(quadrature.mass - 1.0), 1e-6, "integral minus 1"),
            at_most("ln Z on a grid", difference / error, 4.0, meaning, hard=hard),
        ]
    return checks


def _divergence(weighed: "Weighed", quadrature: "Quadrature | None") -> float:
    """KL(q || p) in nats: on a grid if that has converged, else as ``<w>_q + ln Z``.

    Points of infinite energy, which no weight ever counts, are left out of q and its norm.
    """
    if quadrature is not None and quadrature.converged:
        return quadrature.kl
    finite = weighed.work[torch.isfinite(weighed.work)]
    return (
        float(finite.mean()) - math.log(len(finite) / len(weighed.work)) - weighed.estimate.value
    )


def _observables(
    weighed: "Weighed", log_w: Array, log_z: float, chain: IndependenceChain
) -> list[Observable]:
    """Mean potential, entropy, and what Metropolis sampling makes of the weights."""
    potential = (weighed.work - weighed.log_q).numpy()
    mean = reweight(potential, log_w)
    n = len(log_w)
    lost = float(np.isneginf(log_w).mean())
    rejected = [Observable("samples of infinite energy", lost, math.sqrt(lost * (1 - lost) / n))]
    return [
        Observable("<u>", mean.value, mean.stderr, chain.tau_acc),
        Observable("entropy = ln Z + <u>", log_z + mean.value, mean.stderr),
        expected_acceptance(log_w),
        Observable("tau of rejections", rejection_tau(log_w), 0.0),
        *(rejected if lost > 0.0 else []),
    ]


def arrays_of_density(weighed: "Weighed", chain: IndependenceChain) -> dict[str, Array]:
    """Works, samples ``x`` of the flow, and exact ``samples``: a Metropolis chain over them."""
    n = len(weighed.work)
    x = weighed.x.numpy()
    return {
        "lam": np.array([0.0]),
        "node": np.zeros(n, dtype=np.int64),
        "chain": np.zeros(n, dtype=np.int64),
        "step": np.arange(n),
        "work": weighed.work.numpy(),
        "x": x,
        "log_q": weighed.log_q.numpy(),
        "samples": x[chain.index.numpy()],
    }
