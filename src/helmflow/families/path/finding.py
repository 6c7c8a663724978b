"""From samples along a path to a finding: rows, bounds, observables, curves."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.estimators.nodes import Nodes, joined
from helmflow.families.path.analysis import Analysis, climb
from helmflow.families.path.ladder import LadderSampler
from helmflow.results import Bounds, Observable
from helmflow.skeleton.checks import observables_against_exact
from helmflow.skeleton.convergence import POINTS, convergence
from helmflow.skeleton.quantity import Finding, Quantity
from helmflow.skeleton.run import Run
from helmflow.system import Reference

Array = np.ndarray
REFERENCES = {"<phi^2>": "phi_squared", "chi_2 = V <mean(phi)^2>": "chi_2"}
"""What observables are called in system files."""


def finding_of(
    analysis: Analysis,
    sampler: LadderSampler,
    quantity: Quantity,
    run: Run,
    *,
    learned: Estimate | None = None,
) -> Finding:
    """Everything that the samples say, except the certificate.

    ``learned``: of a flow the integration that knows nothing of it; learned (targeted) estimators
    carry an l in front of their names.
    """

    def named(estimate: Estimate) -> Estimate:
        return estimate if learned is None else replace(estimate, method=f"l{estimate.method}")

    observables = [_with_exact(row, quantity.references) for row in _observables(sampler)]
    rows = [named(row) if row.method in LEARNED else row for row in _rows(analysis)]
    accepted = sampler.records.accepted
    return Finding(
        headline=named(analysis.headline),
        rows=tuple(rows if learned is None else [*rows, learned]),
        checks=tuple(observables_against_exact(observables)),
        arrays=arrays_of(analysis, sampler, quantity, run),
        observables=tuple(observables),
        bounds=_bounds(analysis),
        one_sided=analysis.one_sided,
        acceptance=float(np.mean([a.double().mean() for a in accepted])) if accepted else None,
    )


LEARNED = ("fep up", "fep down")


def _rows(analysis: Analysis) -> list[Estimate]:
    """All estimates but the headline."""
    rows = []
    if analysis.integral is not None:
        if analysis.samples.stein is not None:
            rows.append(analysis.integral.plain)
        if analysis.states is not None:
            ends = analysis.states.difference(0, len(analysis.rungs))
            rows.append(replace(ends, diagnostics={}))  # the ends need not overlap
    if analysis.rungs:
        rows += [climb(analysis.rungs, direction) for direction in ("up", "down")]
        rows += [climb(analysis.rungs, "both")] if len(analysis.rungs) > 1 else []
    return rows


def _bounds(analysis: Analysis) -> Bounds | None:
    """<w>_target <= delta_f <= <w>_base (Gibbs and Bogoliubov)."""
    if analysis.one_sided:
        return None
    ends = []
    for k in (-1, 0):
        means = analysis.samples.work[k].mean(0)
        ends.append((float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))))
    ends.sort()
    return Bounds(ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def _with_exact(row: Observable, references: tuple[Reference, ...]) -> Observable:
    """The observable beside the value of the system file, if that knows it."""
    quantity = REFERENCES.get(row.name.removesuffix(", flow"))
    for known in references:
        if known.quantity == quantity and known.per == "system":
            return replace(row, exact=known.value, exact_stderr=known.stderr or 0.0)
    return row


def _observables(sampler: LadderSampler) -> list[Observable]:
    if not sampler.records.observables:
        return []
    series = np.stack([o.numpy() for o in sampler.records.observables])  # (T, O, chains)
    rows = []
    for k, name in enumerate(sampler.problem.observable_names):
        chains = series[:, k]
        stderr = chains.mean(0).std(ddof=1) / np.sqrt(chains.shape[1])
        tau = integrated_autocorrelation(chains.T).tau_int if len(chains) >= 4 else None
        rows.append(Observable(name, float(chains.mean()), float(stderr), tau))
    return rows + sampler.flow_observables()


def arrays_of(
    analysis: Analysis, sampler: LadderSampler, quantity: Quantity, run: Run
) -> Mapping[str, Array]:
    """Raw work values and every curve of the report."""
    samples = analysis.samples
    arrays = dict(samples.arrays())
    if analysis.integral is not None:
        integral = analysis.integral
        arrays |= {
            "residual": joined(integral.residual),
            "ti_mean": integral.mean,
            "ti_stderr": integral.stderr,
            "ti_mean_plain": integral.mean_plain,
            "ti_stderr_plain": integral.stderr_plain,
            "ti_weight": integral.weight,
        }
        arrays |= _convergence(samples, quantity)
    if analysis.states is not None:
        arrays |= {"f_k": analysis.states.f_k, "overlap": analysis.states.overlap}
    return {**arrays, **sampler.curves(run)}


def _convergence(samples: Nodes, quantity: Quantity) -> Mapping[str, Array]:
    """The headline from growing parts of the run, in whole sweeps."""
    length = len(samples.work[0])
    if length < 8:
        return {}
    sweeps = np.linspace(max(length // POINTS, 4), length, POINTS).astype(int)

    def integral(start: float, stop: float) -> Estimate:
        cut = slice(round(start * length), round(stop * length))
        return thermodynamic_integration(samples.part(cut)).estimate

    return convergence(integral, quantity, np.unique(sweeps) / length)
