"""A sphere that grows in a solvent: the difference between two states of one system."""

import math
from collections.abc import Collection
from dataclasses import replace

from helmflow.energies.growing_sphere import GrowingSphere
from helmflow.errors import InputError
from helmflow.families.base import Family
from helmflow.families.growth.estimates import Growth, GrowthPlan, grow
from helmflow.families.growth.growth_path import GrowthPath
from helmflow.settings import Settings
from helmflow.skeleton.checks import agreement, target_error
from helmflow.skeleton.quantity import Finding, Quantity
from helmflow.skeleton.run import Run
from helmflow.system import System

USUAL_ERROR = 0.0125
"""Standard error (kT) of the published test system with the plan as it stands."""

FEWEST_RECORDS = 8
"""Below, the error bar is not known."""


class GrowthFamily(Family):
    """The free energy of growing a sphere in a solvent."""

    noun = "a growing sphere"
    methods = ("auto", "ti", "bar")
    target_error = USUAL_ERROR

    def reads(self, settings: Settings) -> Collection[str]:
        """Nothing: how much is sampled follows from ``target_error``."""
        return ()

    @property
    def quantity(self) -> Quantity:
        """f_B - f_A in kT."""
        return Quantity(
            "free_energy_difference",
            self.system.convention,
            n_particles=self.system.n_particles,
            references=self.system.references,
        )

    def estimate(self, run: Run) -> Finding:
        """Sample path and ends, and combine integration with BAR through the fitted map."""
        goal = run.settings.target_error or self.target_error
        growth = grow(growth_path(self.system), scaled_plan(goal), self.quantity, run)
        return _finding(growth, run.settings.method, goal)


def _finding(growth: Growth, method: str, goal: float) -> Finding:
    comparison, path = growth.comparison, growth.path
    headlines = {"auto": growth.combined, "ti": path.integral, "bar": comparison.plain}
    headline = headlines[method]
    estimates = [growth.combined, growth.mapped, path.integral, path.plain_integral]
    rows = [e for e in (*estimates, comparison.plain) if e.method != headline.method]
    meaning = "standard errors; they share no samples"
    checks = (
        target_error(headline, goal, "kT"),
        agreement("integration against mapped bar", path.integral, growth.mapped, meaning),
        *comparison.checks(),
    )
    return Finding(
        headline=headline,
        rows=tuple(rows),
        checks=checks,
        arrays={**comparison.arrays(), "coefficients": path.fit.coefficients},
        observables=comparison.observables(),
        bounds=comparison.bounds(),
    )


def growth_path(system: System) -> GrowthPath:
    """The path between both states of a system; ``InputError`` unless only the radius differs."""
    first, last = system.energy, system.final.energy if system.final is not None else None
    if not (isinstance(first, GrowingSphere) and isinstance(last, GrowingSphere)):
        raise InputError("potential.kind", "'growing_sphere'", type(first).__name__)
    for name in ("n_particles", "box", "cutoff"):
        if getattr(first, name) != getattr(last, name):
            raise InputError(f"final.{name}", "the value of [potential]", getattr(last, name))
    return GrowthPath(first, last.radius, system.beta)


def scaled_plan(goal: float) -> GrowthPlan:
    """Records in proportion to 1/error^2."""
    usual = GrowthPlan()
    scale = (USUAL_ERROR / goal) ** 2
    return replace(
        usual,
        path_records=max(math.ceil(scale * usual.path_records), FEWEST_RECORDS),
        end_records=max(math.ceil(scale * usual.end_records), FEWEST_RECORDS),
    )
