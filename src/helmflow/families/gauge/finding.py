"""From weighted links to a finding: the certificate, observables, and the report's arrays."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from helmflow.estimators.autocorrelation import Autocorrelation, integrated_autocorrelation
from helmflow.estimators.diagnostics import forward_ess
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.reweighting import kish_ess, reweight
from helmflow.families.gauge.theory import (
    INTEGRATOR_SAMPLES,
    Baselines,
    FittedGauge,
    GaugeTheory,
    integrator_works,
)
from helmflow.results import Check, Observable
from helmflow.samplers.independence import IndependenceChain
from helmflow.shapes import Configs
from helmflow.skeleton.checks import (
    agreement,
    at_least,
    at_most,
    integrator,
    invariance,
    modes_of_the_chains,
    not_afforded,
    observables_against_exact,
    pareto_tail,
    target_error,
    weights_that_count,
)
from helmflow.skeleton.limits import EFFECTIVE_SAMPLES, EXACT
from helmflow.skeleton.quantity import Finding
from helmflow.skeleton.weighted import Weighted, expected_acceptance
from helmflow.training.integrator_steps import step_bias

Array = np.ndarray
TRANSFORMED = 64
"""Configurations that the invariance is tested with."""


def finding_of(
    theory: GaugeTheory,
    fitted: FittedGauge,
    integral: Estimate | None,
    weighted: Weighted,
    baselines: Baselines | None,
) -> Finding:
    """The certificate and everything that is reported; what is None was not afforded, or is not.

    ``integral``: -ln Z along the path, where there is one.
    """
    estimate, chain = weighted.estimate, weighted.chain(theory.run)
    series = {} if baselines is None else baselines.series
    checks = _checks(theory, fitted, integral, weighted, chain)
    observables = _observables(theory, weighted, chain, series, fitted.sampler)
    counted = [_at_least_counted(row, estimate.n_eff) for row in observables]
    checks += observables_against_exact(counted)
    if baselines is None:
        checks.append(not_afforded("modes of the chains"))
    else:
        checks.append(modes_check(theory, fitted, weighted.log_w, baselines.target))
    measured = {f"observed_{name}": values for name, values in weighted.measured.items()}
    histories = {f"history_{name}": values for name, values in series.items()}
    return Finding(
        headline=estimate,
        rows=() if integral is None else (integral,),
        checks=tuple(checks),
        arrays={**weighted.arrays(), "index": chain.index.numpy(), **measured, **histories},
        observables=tuple(observables),
        bounds=weighted.bounds,
        one_sided=integral is None and "log_z" not in theory.exact,
        method=fitted.sampler,
        base=fitted.name,
        acceptance=chain.acceptance,
        value_exact=theory.exact.get("log_z"),
    )


def _checks(
    theory: GaugeTheory,
    fitted: FittedGauge,
    integral: Estimate | None,
    weighted: Weighted,
    chain: IndependenceChain,
) -> list[Check]:
    estimate, goal = weighted.estimate, theory.settings.target_error or math.inf
    times, least = len(weighted.work) / chain.tau_acc, EFFECTIVE_SAMPLES.soft
    checks = [
        target_error(estimate, goal, "nats"),
        weights_that_count(estimate.n_eff),
        pareto_tail(estimate.diagnostics.get("pareto_k", math.inf), len(weighted.work)),
        at_least("chain", times, least, "autocorrelation times"),
    ]
    if integral is not None:
        checks.append(agreement("flow against integration", integral, estimate))
    elif theory.path_evaluations:
        checks.append(not_afforded("flow against integration"))
    exact = theory.exact.get("log_z")
    if exact is not None:
        difference = abs(-estimate.value - exact)
        off = difference / max(estimate.stderr, 1e-12)
        # where nothing is left to fluctuate, tables and integrators are good to 1e-5
        off = 0.0 if difference < 1e-3 * min(goal, 1.0) else off
        meaning = "standard errors of ln Z"
        checks.append(at_most("flow against exact", off, EXACT.soft, meaning))
    if fitted.integrated is not None:
        if 2 * INTEGRATOR_SAMPLES > theory.run.budget.left:
            checks.append(not_afforded("integrator"))
        else:
            base, flow = fitted.integrated
            bias = step_bias(flow, integrator_works(theory, base, "integrator"))
            checks.append(integrator(bias, goal, "nats, on doubling the steps"))
    checks.append(invariance("gauge invariance", _gauge_spread(theory, fitted)))
    return checks


def modes_check(theory: GaugeTheory, fitted: FittedGauge, log_w: Array, target: Configs) -> Check:
    """A flow that has lost a mode is blind to it; chains at the target are not."""
    with torch.no_grad():
        seen = -(theory.u(target) + fitted.flow.log_prob(target)).numpy()
    return modes_of_the_chains(forward_ess(seen) / len(seen) / (kish_ess(log_w) / len(log_w)))


def _gauge_spread(theory: GaugeTheory, fitted: FittedGauge) -> float:
    generator = theory.run.stream("gauge transformation")
    with torch.no_grad():
        x, _ = fitted.flow.sample_and_log_prob(TRANSFORMED, generator)
        moved = theory.gauge_transformed(x, generator)
        change = fitted.flow.log_prob(moved) - fitted.flow.log_prob(x)
    return float(change.abs().max())


def _observables(
    theory: GaugeTheory,
    weighted: Weighted,
    chain: IndependenceChain,
    baselines: Mapping[str, Array],
    sampler: str,
) -> list[Observable]:
    """Reweighted averages, and autocorrelation times of the slow observable."""
    log_w, index, slow = weighted.log_w, chain.index.numpy(), theory.slow
    rows = []
    for name, series in weighted.measured.items():
        if name != "Q":
            mean = reweight(series, log_w)
            tau = integrated_autocorrelation(series[index]).tau_int
            exact = theory.exact.get(name)
            error = None if exact is None else 0.0
            rows.append(Observable(name, mean.value, mean.stderr, tau, exact, error))
    of_chain = integrated_autocorrelation(weighted.measured[slow][index])
    rows.append(_time(f"tau_int({slow}), {sampler}", of_chain))
    for name, series in baselines.items():
        rows.append(_time(f"tau_int({slow}), {name}", integrated_autocorrelation(series)))
    return [*rows, expected_acceptance(log_w)]


def _at_least_counted(row: Observable, n: float) -> Observable:
    """Charges may be too rare to be met: their error is then that of counting what is exact."""
    if row.name != "<Q^2>" or row.exact is None:
        return row
    return replace(row, stderr=max(row.stderr, math.sqrt(abs(row.exact) / n)))


def _time(name: str, time: Autocorrelation) -> Observable:
    """An autocorrelation time; without a reliable one the name says that it is a lower bound."""
    return Observable(name if time.reliable else f"{name} (at least)", time.tau_int, time.stderr)
