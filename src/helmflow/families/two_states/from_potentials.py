"""Free energies from reduced potentials that other programs have computed."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from helmflow.data import SampledPotentials
from helmflow.data.frames import from_frames
from helmflow.errors import ConvergenceError, InputError
from helmflow.estimators.diagnostics import pareto_k
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.mbar import MultistateEstimate
from helmflow.estimators.perturbed import with_unsampled
from helmflow.estimators.reweighting import kish_ess
from helmflow.estimators.slopes import integrate_slopes
from helmflow.families.two_states.difference import CONVENTION, difference
from helmflow.families.two_states.equilibrium import left_out, settled
from helmflow.families.two_states.multistate import (
    MultistateResult,
    checks_of,
    free_energies,
    since_settled,
)
from helmflow.families.two_states.tables import Tables
from helmflow.results import Check
from helmflow.skeleton.checks import pareto_tail, samples_left_out, weights_that_count
from helmflow.skeleton.quantity import Finding
from helmflow.skeleton.run import Run

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


def estimate(
    data: "SampledPotentials | pd.DataFrame",
    *,
    equilibrate: bool = True,
    seed: int = 0,
    name: str = "estimate",
) -> MultistateResult:
    """f of the last state minus that of the first, from potentials of samples, by MBAR; kT.

    ``data``: what `read_potentials` returns, or alchemlyb's ``u_nk``. Cross-checked by BAR between
    neighbours, and by integration where there are slopes. Where potentials are known in
    neighbouring states only, the sum of BAR is the result. Each series is taken from where its
    works have settled (see `equilibration`), unless ``equilibrate`` is false; all samples from
    there on count, errors are for their correlation. Raises InputError for data of fewer than two
    sampled states, and as `mbar`.
    """
    run = Run.in_memory(name, seed)
    given = data if isinstance(data, SampledPotentials) else from_frames(data)
    n_lost = given.n_lost
    given = given.checked("data")
    checks: list[Check] = []
    if equilibrate:
        given, check = _settled(given)
        checks.append(check)
    sampled = given.sampled
    tables = Tables(tuple(given.potentials[k][:, sampled] for k in sampled), (1.0,) * len(sampled))
    solution = tables.mbar() if tables.complete else tables.chain()
    checks = [*checks_of(tables, solution), *checks]
    n_kept = sum(len(table) for table in given.potentials)
    checks += samples_left_out(n_lost, n_kept)
    everywhere, of_weights = _all_states(given, tables, solution)
    checks += of_weights
    method = "mbar" if tables.complete else "bar, summed"
    headline = replace(everywhere.difference(0, len(given.labels) - 1), method=method)
    rows = [tables.sum_of_bars()] if tables.complete and len(sampled) == len(given.labels) else []
    rows += _integral(given)
    finding = Finding(
        replace(headline, diagnostics={}),
        tuple(checks),
        {},
        rows=tuple(rows),
        observables=free_energies(everywhere, given.labels),
    )
    quantity = difference(
        CONVENTION.replace("f_B - f_A", "f of the last state minus f of the first"),
        given.temperature,
    )
    result = run.conclude(quantity, finding)
    return MultistateResult(result, everywhere, tables, quantity, given.temperature)


def _settled(data: SampledPotentials) -> tuple[SampledPotentials, Check]:
    """Every series, and its slopes, from where works have settled."""
    starts, potentials = {}, list(data.potentials)
    slopes = None if data.slopes is None else list(data.slopes.values)
    for k in data.sampled:
        table = potentials[k]
        found = settled(since_settled(table, k, data.sampled))
        starts[data.labels[k]] = (found, len(table))
        potentials[k] = table[found.start :]
        if slopes is not None and len(slopes[k]) == len(table):
            slopes[k] = slopes[k][found.start :]
    cut = replace(data, potentials=tuple(potentials))
    if data.slopes is not None and slopes is not None:
        cut = replace(cut, slopes=replace(data.slopes, values=tuple(slopes)))
    return cut, left_out(starts)


def _all_states(
    data: SampledPotentials, tables: Tables, solution: MultistateEstimate
) -> tuple[MultistateEstimate, list[Check]]:
    """Free energies of the states with samples, and of those without by reweighting, judged."""
    sampled = data.sampled
    if len(sampled) == len(data.labels):
        return solution, []
    u_kn = np.concatenate([data.potentials[k] for k in sampled]).T
    if np.isnan(u_kn).any():
        raise InputError("data", "potentials in all states, if some have no samples", "NaN")
    n_k, f_k = np.zeros(len(data.labels)), np.zeros(len(data.labels))
    n_k[sampled], f_k[sampled] = tables.sizes, solution.f_k
    g = float((np.array(tables.sizes) / solution.n_eff).max())
    f, stderr, log_weights = with_unsampled(u_kn, n_k, f_k, g)
    of_samples = np.ix_(sampled, sampled)
    stderr[of_samples] = np.maximum(stderr[of_samples], solution.stderr_ij)
    n_eff = np.array([kish_ess(row) / g for row in log_weights])
    missing = n_k == 0
    checks = [
        weights_that_count(float(n_eff[missing].min())),
        pareto_tail(max(map(pareto_k, log_weights[missing])), u_kn.shape[1]),
    ]
    n_eff[sampled] = solution.n_eff
    overlap = np.full_like(stderr, np.nan)
    overlap[of_samples] = solution.overlap
    everywhere = replace(solution, f_k=f, stderr_ij=stderr, n_eff=n_eff, overlap=overlap)
    return everywhere, checks


def _integral(data: SampledPotentials) -> list[Estimate]:
    if data.slopes is None or len(data.sampled) < len(data.labels):
        return []
    try:
        return [integrate_slopes(data.slopes.lambdas, data.slopes.values)]
    except (InputError, ConvergenceError):  # a row of the table less
        return []
