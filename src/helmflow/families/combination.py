"""Legs of a thermodynamic cycle, their repeats and analytic terms, added up."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.families.two_states.difference import difference
from helmflow.results import Check, Observable, Result
from helmflow.skeleton.checks import at_most, comparison, scatter
from helmflow.skeleton.quantity import Finding
from helmflow.skeleton.run import Run
from helmflow.tables import ClosedTable, parse_table, read_toml
from helmflow.units import AVOGADRO, BOLTZMANN

NM3_OF_ONE_MOLAR = 1e24 / AVOGADRO
"""Volume of one molecule at 1 mol/L."""

UNGRADED = {"A": 0.0, "B": 0.0, "C": 1.0, "D": 2.0, "F": 3.0}
"""Grades of legs as the value of a check: A and B pass, F is hard."""

Positive = Annotated[float, Field(gt=0.0)]
Angle = Annotated[float, Field(gt=0.0, lt=180.0)]
Sign = Literal[-1, 1]


class Leg(ClosedTable):
    """[[legs]]: one free-energy difference, by one run or several independent repeats."""

    name: str
    runs: Annotated[tuple[str, ...], Field(min_length=1)]
    times: Sign = 1


class StandardState(ClosedTable):
    """A particle that had the volume of its box (nm^3) gets that of 1 mol/L: -ln(V0 / V)."""

    kind: Literal["standard_state"]
    volume: Positive
    times: Sign = 1

    def value(self, kT: float) -> float:
        """kT."""
        return -math.log(NM3_OF_ONE_MOLAR / self.volume)


class Boresch(ClosedTable):
    """A molecule that six harmonic restraints held is free at 1 mol/L.

        -ln [ 8 pi^2 V0 sqrt(K_r K_A K_B K_1 K_2 K_3) / (r^2 sin A sin B (2 pi kT)^3) ]

    ``distance`` r in nm, ``angles`` A, B in degrees; ``force_constants`` of r in kJ/mol/nm^2, of
    A, B and three dihedrals in kJ/mol/rad^2, energies K (x - x0)^2 / 2.
    Source: S. Boresch et al., doi:10.1021/jp0217839, equation 32.
    """

    kind: Literal["boresch"]
    distance: Positive
    angles: tuple[Angle, Angle]
    force_constants: tuple[Positive, Positive, Positive, Positive, Positive, Positive]
    times: Sign = 1

    def value(self, kT: float) -> float:
        """kT, of k_B T = ``kT`` kJ/mol."""
        a, b = (math.sin(math.radians(angle)) for angle in self.angles)
        springs = math.sqrt(math.prod(k / (2.0 * math.pi * kT) for k in self.force_constants))
        held = self.distance**2 * a * b / springs
        return -math.log(8.0 * math.pi**2 * NM3_OF_ONE_MOLAR / held)


Term = Annotated[StandardState | Boresch, Field(discriminator="kind")]


class Combination(ClosedTable):
    """A file of legs and terms; ``cycle`` says that their sum must vanish."""

    name: str
    temperature: Positive
    legs: Annotated[tuple[Leg, ...], Field(min_length=1)]
    terms: tuple[Term, ...] = ()
    cycle: bool = False


def read_combination(path: Path) -> Combination:
    """The combination in a TOML file; raises InputError that names what is wrong in it."""
    return parse_table(Combination, read_toml(path, "file"))


def combined(plan: Combination, folder: Path, seed: int = 0) -> Result:
    """The sum of all legs and terms, each with its sign; kT.

    ``runs`` of a leg are directories or ``result.json`` files, relative to ``folder``. Repeats are
    averaged with the weights of their errors; where they scatter more than these say, the error
    grows with the scatter, and beyond chance the result is an F. A leg that is not an A or B costs
    the result its own grade. Raises InputError for runs of another quantity or temperature.
    """
    kT = BOLTZMANN["kJ/mol"] * plan.temperature
    total, variance, checks, rows = 0.0, 0.0, list[Check](), list[Observable]()
    for leg in plan.legs:
        repeats = [_result(folder / run, leg.name, kT) for run in leg.runs]
        mean, found = _mean(leg.name, repeats)
        checks += [_grade(leg.name, repeats), *found]
        rows.append(Observable(leg.name, leg.times * mean.value, mean.stderr))
        total, variance = total + leg.times * mean.value, variance + mean.stderr**2
    for term in plan.terms:
        value = term.times * term.value(kT)
        rows.append(Observable(term.kind, value, 0.0))
        total += value
    if plan.cycle:
        meaning = "standard errors of the sum from zero"
        checks.append(comparison("cycle closes", abs(total) / math.sqrt(variance), meaning))
    headline = Estimate(total, math.sqrt(variance), math.nan, "sum of legs")
    finding = Finding(headline, tuple(checks), {}, observables=tuple(rows))
    convention = "sum of the legs and terms of a file, each with its sign"
    run = Run.in_memory(plan.name, seed)
    return run.conclude(difference(convention, plan.temperature), finding)


def _result(path: Path, leg: str, kT: float) -> Result:
    folder = path.parent if path.name == "result.json" else path
    if not (folder / "result.json").is_file():
        raise InputError(f"legs, {leg}", "finished runs", str(path))
    result = Result.from_json((folder / "result.json").read_bytes())
    if result.quantity != "free_energy_difference" or result.per != "system":
        got = f"{result.quantity} per {result.per}, {path}"
        raise InputError(f"legs, {leg}", "free-energy differences", got)
    told = {other.unit: other.value for other in result.other_units}
    joules = told.get("kJ/mol", kT * result.value)
    if abs(joules - kT * result.value) > 1e-3 * abs(joules):
        found = joules / result.value / BOLTZMANN["kJ/mol"]
        raise InputError(f"legs, {leg}", "runs of one temperature", f"{found:.4g} K, {path}")
    return result


def _mean(leg: str, repeats: Sequence[Result]) -> tuple[Estimate, list[Check]]:
    """Average of repeats, and whether they scatter as their errors say."""
    errors = [result.stderr for result in repeats]
    if not all(0.0 < error < math.inf for error in errors):
        raise InputError(f"legs, {leg}", "runs with an error that is finite", errors)
    weights = [error**-2 for error in errors]
    norm = sum(weights)
    mean = sum(w * r.value for w, r in zip(weights, repeats, strict=True)) / norm
    error, n = norm**-0.5, len(repeats)
    if n == 1:
        return Estimate(mean, error, math.nan, leg), []
    chi2 = sum(w * (r.value - mean) ** 2 for w, r in zip(weights, repeats, strict=True))
    widened = error * math.sqrt(max(chi2 / (n - 1), 1.0))
    check = scatter(f"repeats of {leg} agree", chi2, n - 1, f"of {n} repeats")
    return Estimate(mean, widened, math.nan, leg), [check]


def _grade(leg: str, repeats: Sequence[Result]) -> Check:
    worst = max(repeats, key=lambda result: UNGRADED.get(result.grade, 3.0))
    meaning = f"grade {worst.grade}, {worst.reason}"
    return at_most(f"grade of {leg}", UNGRADED.get(worst.grade, 3.0), 0.0, meaning, hard=2.0)
