"""From estimates in kT to the result a person reads and the arrays a report draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from helmflow.densities.gaussian import Gaussian
from helmflow.estimators.autocorrelation import integrated_autocorrelation
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.estimators.nodes import Nodes, joined
from helmflow.recipes.path.analysis import Analysis, climb
from helmflow.recipes.path.ladder import LadderSampler
from helmflow.recipes.path.problem import Problem
from helmflow.recipes.weighted_results import observables_check
from helmflow.results import (
    Bounds,
    Check,
    Cost,
    EstimateRow,
    Observable,
    OtherUnit,
    ReferenceDeviation,
    Result,
    grade,
)
from helmflow.settings import Settings
from helmflow.system import System
from helmflow.units import BOLTZMANN, convert_energy

Array = np.ndarray
CONVERGENCE_POINTS = 10
REFERENCES = {"<phi^2>": "phi_squared", "chi_2 = V <mean(phi)^2>": "chi_2"}
"""What observables are called in system files."""


@dataclass(frozen=True)
class Outcome:
    """How delta_f = f_target - f_base becomes the quantity of this system."""

    system: System
    settings: Settings
    problem: Problem

    @property
    def per(self) -> int:
        """Particles the value is divided by."""
        return self.system.n_particles if self.system.kind == "crystal" else 1

    @property
    def sign(self) -> float:
        """+1 for a free energy, -1 for ln Z."""
        return 1.0 if self.system.kind == "crystal" else -1.0

    def value(self, delta_f: float) -> float:
        """Free energy per particle, or ln Z."""
        return self.sign * (delta_f - self.problem.log_measure) / self.per

    def value_and_stderr(self, estimate: Estimate) -> tuple[float, float]:
        """The same for an estimate, with its error."""
        return self.value(estimate.value), estimate.stderr / self.per

    def row(self, estimate: Estimate, method: str | None = None) -> EstimateRow:
        """One line of the table of estimates."""
        value, stderr = self.value_and_stderr(estimate)
        found = estimate.diagnostics
        return EstimateRow(
            method=method or estimate.method,
            value=value,
            stderr=stderr,
            n_eff=estimate.n_eff,
            ess_fraction=found.get("ess_fraction"),
            pareto_k=found.get("pareto_k"),
            overlap=found.get("overlap"),
        )


def result_of(
    outcome: Outcome,
    analysis: Analysis,
    checks: Sequence[Check],
    sampler: LadderSampler,
    base_name: str,
    spent: tuple[float, float],
    others: Sequence[Estimate] = (),
) -> Result:
    """The result with its certificate; ``others``: estimates from samples of their own."""
    system, settings = outcome.system, outcome.settings
    crystal = system.kind == "crystal"
    quantity = "helmholtz_free_energy" if crystal else "log_partition_function"
    value, stderr = outcome.value_and_stderr(analysis.headline)
    observables = [_with_exact(row, system) for row in _observables(sampler)]
    checks = [*checks, *observables_check(observables)]
    letter, reason = grade(checks, one_sided=analysis.one_sided)
    accepted = sampler.records.accepted
    return Result(
        system=system.name,
        quantity=quantity,
        value=value,
        stderr=stderr,
        unit="kT" if crystal else "nat",
        per="particle" if crystal else "system",
        n_particles=system.n_particles,
        convention=system.convention,
        method=_method(outcome, analysis.headline),
        base=base_name,
        grade=letter,
        reason=reason,
        checks=tuple(checks),
        estimates=tuple(_rows(outcome, analysis, others)),
        references=tuple(
            ReferenceDeviation.compare(value, stderr, r.value, r.stderr, r.source, r.note)
            for r in system.references
            if r.quantity == quantity
        ),
        bounds=_bounds(outcome, analysis),
        other_units=tuple(_other_units(system, value, stderr)),
        length_unit=system.units.length,
        observables=tuple(observables),
        acceptance=float(np.mean([a.double().mean() for a in accepted])) if accepted else None,
        cost=Cost(
            cpu_seconds=spent[0],
            wall_seconds=spent[1],
            energy_evaluations=outcome.problem.n_evaluations,
        ),
        seed=settings.seed,
    )


def _method(outcome: Outcome, estimate: Estimate) -> str:
    """Learned (targeted) estimators carry an l in front."""
    return f"l{estimate.method}" if outcome.settings.method == "flow" else estimate.method


def _rows(outcome: Outcome, analysis: Analysis, others: Sequence[Estimate]) -> list[EstimateRow]:
    rows = [outcome.row(analysis.headline, _method(outcome, analysis.headline))]
    if analysis.integral is not None:
        if analysis.samples.stein is not None:
            rows.append(outcome.row(analysis.integral.plain))
        if analysis.states is not None:
            ends = analysis.states.difference(0, len(analysis.rungs))
            rows.append(outcome.row(replace(ends, diagnostics={})))  # the ends need not overlap
    if analysis.rungs:
        several = len(analysis.rungs) > 1
        ways = [climb(analysis.rungs, d) for d in ("up", "down")]
        rows += [outcome.row(way, _method(outcome, way)) for way in ways]
        rows += [outcome.row(climb(analysis.rungs, "both"))] if several else []
    return rows + [outcome.row(estimate) for estimate in others]


def _bounds(outcome: Outcome, analysis: Analysis) -> Bounds | None:
    """<w>_target <= delta_f <= <w>_base (Gibbs and Bogoliubov)."""
    if analysis.one_sided:
        return None
    ends = []
    for k in (-1, 0):
        means = analysis.samples.work[k].mean(0)
        stderr = means.std(ddof=1) / np.sqrt(len(means))
        ends.append((outcome.value(means.mean()), stderr / outcome.per))
    ends.sort()
    return Bounds(ends[0][0], ends[1][0], ends[0][1], ends[1][1])


def _other_units(system: System, value: float, stderr: float) -> list[OtherUnit]:
    """The value in the system's own unit and, where that is physical, the usual others."""
    own = system.units.energy
    if system.kind != "crystal":
        return []
    if own == "epsilon":
        return [OtherUnit(own, value / system.beta, stderr / system.beta)]
    scales = {unit: convert_energy(1.0, own, unit) for unit in BOLTZMANN if unit != "epsilon"}
    return [
        OtherUnit(unit, value * scale / system.beta, stderr * scale / system.beta)
        for unit, scale in scales.items()
    ]


def _with_exact(row: Observable, system: System) -> Observable:
    """The observable beside the value of the system file, if that knows it."""
    quantity = REFERENCES.get(row.name.removesuffix(", flow"))
    for known in system.references:
        if known.quantity == quantity and known.per == "system":
            return replace(row, exact=known.value, exact_stderr=known.stderr or 0.0)
    return row


def _observables(sampler: LadderSampler) -> list[Observable]:
    if not sampler.records.observables:
        return []
    series = np.stack([o.numpy() for o in sampler.records.observables])  # (T, O, chains)
    found = []
    for k, name in enumerate(sampler.problem.observable_names):
        chains = series[:, k]
        stderr = chains.mean(0).std(ddof=1) / np.sqrt(chains.shape[1])
        tau = integrated_autocorrelation(chains.T).tau_int if len(chains) >= 4 else None
        found.append(Observable(name, float(chains.mean()), float(stderr), tau))
    return found + sampler.flow_observables()


def arrays_of(
    outcome: Outcome, analysis: Analysis, sampler: LadderSampler, base: Gaussian
) -> Mapping[str, Array]:
    """Raw work values and every curve of the report."""
    samples = analysis.samples
    arrays = samples.arrays()
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
        arrays |= _convergence(outcome, samples)
    if analysis.states is not None:
        arrays |= {"f_k": analysis.states.f_k, "overlap": analysis.states.overlap}
    if sampler.records.counts is not None:
        counts = sampler.records.counts / sampler.n_sweeps
        arrays |= outcome.problem.curves(counts, base, outcome.settings.seed)
    return arrays | sampler.curves()


def _convergence(outcome: Outcome, samples: Nodes) -> Mapping[str, Array]:
    """The headline from growing parts of the run, taken from its start and from its end."""
    length = len(samples.work[0])
    parts = np.unique(
        np.linspace(max(length // CONVERGENCE_POINTS, 4), length, CONVERGENCE_POINTS).astype(int)
    )
    if length < 8:
        return {}
    arrays: dict[str, Array] = {"convergence_fraction": parts / length}
    cuts = {
        "forward": [slice(0, n) for n in parts],
        "reverse": [slice(length - n, length) for n in parts],
    }
    for name, slices in cuts.items():
        found = [
            outcome.value_and_stderr(thermodynamic_integration(samples.part(cut)).estimate)
            for cut in slices
        ]
        arrays[f"convergence_{name}"] = np.array([value for value, _ in found])
        arrays[f"convergence_{name}_stderr"] = np.array([stderr for _, stderr in found])
    return arrays
