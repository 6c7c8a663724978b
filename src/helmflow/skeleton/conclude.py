"""From a finding to the result: the one place where results are made."""

from helmflow.results import Cost, ReferenceDeviation, Result, grade
from helmflow.settings import Settings
from helmflow.skeleton import checks
from helmflow.skeleton.quantity import Finding, Quantity


def conclude(
    name: str, settings: Settings, cost: Cost, quantity: Quantity, finding: Finding
) -> Result:
    """The result of a run: its number, its grade, and how far known values are away."""
    value = quantity.value(finding.headline.value)
    stderr = quantity.stderr(finding.headline.stderr)
    references = tuple(
        ReferenceDeviation.compare(value, stderr, r.value, r.stderr, r.source, r.note)
        for r in quantity.references
        if r.quantity == quantity.name
    )
    judged = (
        *checks.jointly(finding.checks),
        *checks.finite(value, stderr),
        *checks.known_value(value, references, settings.target_error or 0.0),
    )
    letter, reason = grade(judged, one_sided=finding.one_sided)
    return Result(
        system=name,
        quantity=quantity.name,
        value=value,
        stderr=stderr,
        unit=quantity.unit,
        per=quantity.per,
        n_particles=quantity.n_particles,
        convention=quantity.convention,
        method=finding.method or finding.headline.method,
        base=finding.base,
        grade=letter,
        reason=reason,
        checks=judged,
        estimates=tuple(quantity.row(row) for row in (finding.headline, *finding.rows)),
        references=references,
        bounds=None if finding.bounds is None else quantity.bounds(finding.bounds),
        other_units=quantity.in_other_units(value, stderr),
        length_unit=quantity.length_unit,
        observables=finding.observables,
        acceptance=finding.acceptance,
        value_exact=finding.value_exact,
        kl_exact=finding.kl_exact,
        cost=cost,
        seed=settings.seed,
    )
