"""``helmflow run`` for a sphere that grows in a solvent."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from helmflow.energies.growing_sphere import GrowingSphere
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.families.path.certificate import HOPELESS_DISAGREEMENT, at_most, sigmas
from helmflow.families.solvation.estimates import (
    SolvationPlan,
    SolvationResult,
    solvation_free_energy,
)
from helmflow.families.solvation.growth_path import GrowthPath
from helmflow.families.two_states.outcome import row
from helmflow.results import Cost, Event, ReferenceDeviation, Result, RunDirectory, grade
from helmflow.settings import Settings
from helmflow.system import System

DEFAULT_ERROR = 0.0125
"""Standard error (kT) of the published test system with the plan as it stands."""

PLAINEST = 8
"""Least number of records: below, the error bar is not known."""


def run_solvation(
    system: System,
    settings: Settings,
    directory: RunDirectory | None,
    progress: Callable[[Event], None],
) -> Result:
    """Free energy of growing the sphere; see `solvation_free_energy`.

    A run that was killed goes on after the last stage it finished (the fit along the path, the
    samples of the ends), with the same numbers; its cost is that of all its lives.
    """
    clock = (time.process_time(), time.time())
    path = growth_path(system)
    if settings.method not in ("auto", "ti", "bar"):
        raise InputError("method", "auto, ti or bar for a growing sphere", settings.method)
    plan = scaled_plan(settings.target_error or DEFAULT_ERROR)
    found = solvation_free_energy(
        path, seed=settings.seed, plan=plan, directory=directory, progress=progress
    )
    result = _result(system, settings, found, clock)
    if directory is not None:
        directory.write_work({**found.targeted.arrays(), "coefficients": found.fit.coefficients})
        directory.write_result(result)
    progress(Event("done", 1.0, 1.0, "", result.value, result.stderr, found.n_evaluations))
    return result


def growth_path(system: System) -> GrowthPath:
    """The path between both states of a system; ``InputError`` unless only the radius differs."""
    first, last = system.energy, system.final.energy if system.final is not None else None
    if not (isinstance(first, GrowingSphere) and isinstance(last, GrowingSphere)):
        raise InputError("potential.kind", "'growing_sphere'", type(first).__name__)
    for name in ("n_particles", "box", "cutoff"):
        if getattr(first, name) != getattr(last, name):
            raise InputError(f"final.{name}", "the value of [potential]", getattr(last, name))
    return GrowthPath(first, last.radius, system.beta)


def scaled_plan(target_error: float) -> SolvationPlan:
    """Records in proportion to 1/error^2."""
    usual = SolvationPlan()
    scale = (DEFAULT_ERROR / target_error) ** 2
    return replace(
        usual,
        path_records=max(math.ceil(scale * usual.path_records), PLAINEST),
        end_records=max(math.ceil(scale * usual.end_records), PLAINEST),
    )


def _result(
    system: System, settings: Settings, found: SolvationResult, clock: tuple[float, float]
) -> Result:
    targeted = found.targeted
    mapped = targeted.mapped or targeted.plain
    headline = {"auto": found.combined, "ti": found.integral, "bar": targeted.plain}[
        settings.method
    ]
    checks = [
        at_most("target error", headline.stderr, settings.target_error or DEFAULT_ERROR, "kT"),
        at_most(
            "integration against mapped bar",
            sigmas(found.integral, mapped),
            2.0,
            "standard errors; they share no samples",
            hard=HOPELESS_DISAGREEMENT,
        ),
        *targeted.result.checks,
    ]
    letter, reason = grade(checks, one_sided=False)
    rows = [headline, *(e for e in _all(found) if e.method != headline.method)]
    return replace(
        targeted.result,
        system=system.name,
        value=headline.value,
        stderr=headline.stderr,
        n_particles=system.n_particles,
        convention=system.convention,
        method=headline.method,
        grade=letter,
        reason=reason,
        checks=tuple(checks),
        estimates=tuple(row(e) for e in rows),
        references=tuple(
            ReferenceDeviation.compare(
                headline.value, headline.stderr, r.value, r.stderr, r.source, r.note
            )
            for r in system.references
            if r.quantity == "free_energy_difference"
        ),
        cost=_cost(found, clock),
        seed=settings.seed,
    )


def _cost(found: SolvationResult, clock: tuple[float, float]) -> Cost:
    cpu, wall = time.process_time() - clock[0], time.time() - clock[1]
    before = max(sum(found.cpu_seconds.values()) - cpu, 0.0)  # of a life that was resumed
    return Cost(cpu + before, wall + before, found.n_evaluations)


def _all(found: SolvationResult) -> list[Estimate]:
    parts = (found.combined, found.targeted.mapped, found.integral, found.plain_integral)
    return [e for e in (*parts, found.targeted.plain) if e is not None]
