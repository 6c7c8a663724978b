"""From weighed links to the result a person reads."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from helmflow.estimators.autocorrelation import Autocorrelation, integrated_autocorrelation
from helmflow.estimators.diagnostics import forward_ess
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.reweighting import kish_ess, reweight
from helmflow.families.gauge.theory import integrator_works
from helmflow.families.path.certificate import at_least, at_most, sigmas
from helmflow.families.weighted_results import (
    bounds_of,
    expected_acceptance,
    observables_check,
    precision_checks,
    references_of,
    row_of,
    tail_check,
)
from helmflow.results import Check, Cost, Observable, Result, grade
from helmflow.samplers.independence import IndependenceChain, independence_metropolis
from helmflow.shapes import Configs
from helmflow.streams import stream
from helmflow.training.integrator_steps import step_bias

if TYPE_CHECKING:
    from helmflow.families.gauge.run import WeighedLinks
    from helmflow.families.gauge.theory import Baselines, FittedGauge, GaugeTheory

Array = np.ndarray
EXACT_SIGMAS = 4.0
TRANSFORMED = 64
"""Configurations that the invariance is tested with."""


def result_of_gauge(
    theory: "GaugeTheory",
    fitted: "FittedGauge",
    weighed: "WeighedLinks",
    integral: Estimate | None,
    baselines: "Baselines",
    spent: tuple[float, float],
) -> tuple[Result, IndependenceChain]:
    """The result with its certificate, and the Metropolis chain over the samples."""
    system, settings = theory.system, theory.settings
    estimate, log_w = weighed.estimate, -weighed.work.numpy()
    chain = independence_metropolis(log_w, stream(settings.seed, "metropolis"))
    checks = _checks(theory, fitted, weighed, integral, chain)
    observables = _observables(theory, weighed, chain, baselines.series, fitted.sampler)
    checks += observables_check([_at_least_counted(row, estimate.n_eff) for row in observables])
    checks.append(modes_check(theory, fitted, log_w, baselines.target))
    letter, reason = grade(checks, one_sided=integral is None and "log_z" not in theory.exact)
    value, stderr = -estimate.value, estimate.stderr
    rows = [row_of("fep", estimate)]
    if integral is not None:
        rows.append(row_of(integral.method, integral))
    result = Result(
        system=system.name,
        quantity="log_partition_function",
        value=value,
        stderr=stderr,
        unit="nat",
        per="system",
        convention=system.convention,
        method=fitted.sampler,
        base=fitted.name,
        grade=letter,
        reason=reason,
        checks=tuple(checks),
        estimates=tuple(rows),
        references=references_of(system, value, stderr),
        bounds=bounds_of(weighed.work.numpy()),
        observables=tuple(observables),
        acceptance=chain.acceptance,
        value_exact=theory.exact.get("log_z"),
        n_particles=system.n_particles,
        cost=Cost(spent[0], spent[1], theory.n_evaluations),
        seed=settings.seed,
    )
    return result, chain


def _checks(
    theory: "GaugeTheory",
    fitted: "FittedGauge",
    weighed: "WeighedLinks",
    integral: Estimate | None,
    chain: IndependenceChain,
) -> list[Check]:
    estimate, goal = weighed.estimate, theory.settings.target_error or math.inf
    checks = [
        *precision_checks(estimate, goal),
        tail_check(estimate),
        at_least("chain", len(weighed.work) / chain.tau_acc, 50.0, "autocorrelation times"),
    ]
    if integral is not None:
        apart = sigmas(integral, estimate)
        checks.append(at_most("flow against integration", apart, 3.0, "standard errors", hard=6.0))
    exact = theory.exact.get("log_z")
    if exact is not None:
        off = abs(-estimate.value - exact) / max(estimate.stderr, 1e-12)
        meaning = "standard errors of ln Z"
        # where nothing is left to fluctuate, tables and integrators are good to 1e-5
        off = 0.0 if abs(-estimate.value - exact) < 1e-3 * min(goal, 1.0) else off
        checks.append(at_most("flow against exact", off, EXACT_SIGMAS, meaning))
    if fitted.integrated is not None:
        works = integrator_works(theory, fitted.flow.base, "integrator")
        bias = step_bias(fitted.integrated, works)
        limit = 0.3 * goal
        checks.append(
            at_most("integrator", bias, limit, "nats, on doubling the steps", hard=5.0 * limit)
        )
    spread = _gauge_spread(theory, fitted)
    checks.append(at_most("gauge invariance", spread, 1e-6, "nats, of ln q", hard=1e-3))
    return checks


def modes_check(
    theory: "GaugeTheory", fitted: "FittedGauge", log_w: Array, target: Configs
) -> Check:
    """A flow that has lost a mode is blind to it; chains at the target are not."""
    with torch.no_grad():
        seen = -(theory.u(target) + fitted.flow.log_prob(target)).numpy()
    ratio = forward_ess(seen) / len(seen) / (kish_ess(log_w) / len(log_w))
    meaning = "ESS on the chains over ESS on the flow's draws"
    return at_least("modes of the chains", ratio, 0.3, meaning, hard=0.03)


def _gauge_spread(theory: "GaugeTheory", fitted: "FittedGauge") -> float:
    generator = stream(theory.settings.seed, "gauge transformation")
    with torch.no_grad():
        x, _ = fitted.flow.sample_and_log_prob(TRANSFORMED, generator)
        moved = theory.gauge_transformed(x, generator)
        change = fitted.flow.log_prob(moved) - fitted.flow.log_prob(x)
    return float(change.abs().max())


def _observables(
    theory: "GaugeTheory",
    weighed: "WeighedLinks",
    chain: IndependenceChain,
    baselines: Mapping[str, Array],
    sampler: str,
) -> list[Observable]:
    """Reweighted averages, and autocorrelation times of the slow observable."""
    log_w, index = -weighed.work.numpy(), chain.index.numpy()
    found = []
    for name, values in weighed.observed.items():
        series = values.numpy()
        if name != "Q":
            mean = reweight(series, log_w)
            tau = integrated_autocorrelation(series[index]).tau_int
            exact = theory.exact.get(name)
            known = None if exact is None else 0.0
            found.append(Observable(name, mean.value, mean.stderr, tau, exact, known))
    slow = theory.slow
    found_slow = integrated_autocorrelation(weighed.observed[slow].numpy()[index])
    found.append(_time(f"tau_int({slow}), {sampler}", found_slow))
    for name, series in baselines.items():
        found.append(_time(f"tau_int({slow}), {name}", integrated_autocorrelation(series)))
    return [*found, expected_acceptance(log_w)]


def _at_least_counted(row: Observable, n: float) -> Observable:
    """Charges may be too rare to be met: their error is then that of counting what is exact."""
    if row.name != "<Q^2>" or row.exact is None:
        return row
    return replace(row, stderr=max(row.stderr, math.sqrt(abs(row.exact) / n)))


def _time(name: str, found: Autocorrelation) -> Observable:
    """An autocorrelation time; without a reliable one the name says that it is a lower bound."""
    return Observable(
        name if found.reliable else f"{name} (at least)", found.tau_int, found.stderr
    )


def arrays_of_gauge(
    weighed: "WeighedLinks", chain: IndependenceChain, baselines: Mapping[str, Array]
) -> Mapping[str, Array]:
    """Works, what was measured, and the histories of the slow observable."""
    n = len(weighed.work)
    observed = {f"observed_{name}": values.numpy() for name, values in weighed.observed.items()}
    arrays = {
        "lam": np.array([0.0]),
        "node": np.zeros(n, dtype=np.int64),
        "chain": np.zeros(n, dtype=np.int64),
        "step": np.arange(n),
        "work": weighed.work.numpy(),
        "log_q": weighed.log_q.numpy(),
        "index": chain.index.numpy(),
        **observed,
    }
    for name, series in baselines.items():
        arrays[f"history_{name}"] = series
    return arrays
