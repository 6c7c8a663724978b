"""From the works of a targeted calculation to the result a person reads."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helmflow.energies.constant_pressure import BOX_ROWS, ConstantPressure
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.estimators.diagnostics import work_bounds
from helmflow.estimators.estimate import Estimate
from helmflow.families.path.certificate import at_most
from helmflow.families.two_states.boxes import no_shared_box
from helmflow.families.two_states.endpoints import State
from helmflow.families.two_states.mapped import Mapped
from helmflow.families.two_states.two_sided import Works
from helmflow.families.two_states.two_sided_checks import (
    HOPELESS_CHANCE,
    chance_of_quarters,
    two_sided_checks,
)
from helmflow.results import Bounds, Check, Cost, EstimateRow, Observable, OtherUnit, Result, grade
from helmflow.shapes import Configs
from helmflow.thermo import ThermodynamicState
from helmflow.units import BOLTZMANN, convert_energy

CONVENTION = (
    "f_B - f_A of the configurational integrals over Cartesian coordinates; momenta and masses "
    "are the same in both states and cancel"
)
TWO_TEMPERATURES = (
    "f_B - f_A of the configurational integrals over Cartesian coordinates, each f in kT of its "
    "own temperature, so that no other unit applies; momenta are left out: for every particle "
    "that moves they would add -3/2 times the change of ln T"
)


@dataclass(frozen=True)
class Costs:
    """What a calculation has taken so far."""

    clock: tuple[float, float]
    energy_evaluations: int

    def total(self) -> Cost:
        """Processor and wall seconds since the clock was read."""
        cpu, wall = self.clock
        return Cost(time.process_time() - cpu, time.time() - wall, self.energy_evaluations)


@dataclass(frozen=True)
class Question:
    """What is asked: a name, and what a result says about it besides numbers."""

    name: str
    n_particles: int | None
    temperature: float | None  # kelvin
    seed: int
    one_box: bool = True  # without it works need a map
    convention: str = CONVENTION


def temperature_of(*states: State) -> float | None:
    """Kelvin, where all states are OpenMM's and share one temperature."""
    betas = {s.beta if isinstance(s, ThermodynamicState) else None for s in states}
    kinds = (OpenMMEnergy, ConstantPressure)
    openmm = all(isinstance(getattr(s, "energy", None), kinds) for s in states)
    if not openmm or len(betas) != 1:
        return None
    return 1.0 / (BOLTZMANN["kJ/mol"] * betas.pop())


def convention_of(*states: State) -> str:
    """What a difference between these states is, which depends on whether they share kT."""
    betas = [s.beta for s in states if isinstance(s, ThermodynamicState)]
    return CONVENTION if np.allclose(betas, betas[:1], rtol=1e-12) else TWO_TEMPERATURES


def particles_of(state: State, x: Configs) -> int | None:
    """Number of particles in configurations x of a state, or None if they have none."""
    if isinstance(getattr(state, "energy", None), ConstantPressure):
        return x.shape[1] - BOX_ROWS
    return x.shape[1] if x.ndim == 3 else None


def outcome(
    question: Question,
    plain_works: Works,
    mapped: Mapped | None,
    more_checks: Sequence[Check],
    costs: Costs,
) -> tuple[Result, Works, Mapping[str, Estimate]]:
    """Result, works of the headline, and the estimates "plain", "mapped" and "same"."""
    estimates = {"plain": plain_works.bar()}
    headline, works = estimates["plain"], plain_works
    if mapped is not None:
        estimates |= {
            "mapped": mapped.works.bar(f"bar, {mapped.name} map"),
            "same": mapped.same.bar("bar, same samples"),
        }
        if not question.one_box or _better(estimates["mapped"], mapped.works, headline):
            headline, works = estimates["mapped"], mapped.works
    checks = [*two_sided_checks(works, headline), *more_checks]
    if not question.one_box and works is plain_works:
        checks.append(no_shared_box())
    rows = _ordered(headline, estimates, plain_works, mapped)
    if not question.one_box and mapped is not None:
        rows = [headline, *mapped.works.sides(f", {mapped.name} map")]  # the others mean nothing
    letter, reason = grade(checks, one_sided=False)
    lower, upper = work_bounds(works.forward, works.reverse, g=works.g)
    result = Result(
        system=question.name,
        quantity="free_energy_difference",
        value=headline.value,
        stderr=headline.stderr,
        unit="kT",
        per="system",
        n_particles=question.n_particles,
        convention=question.convention,
        method=headline.method,
        grade=letter,
        reason=reason,
        checks=tuple(checks),
        estimates=tuple(row(e) for e in rows),
        bounds=Bounds(lower.value, upper.value, lower.stderr, upper.stderr),
        other_units=tuple(other_units(headline, question.temperature)),
        observables=(*_gain(estimates, mapped, question.one_box), *_overfitting(mapped)),
        cost=costs.total(),
        seed=question.seed,
    )
    return result, works, estimates


def _better(mapped: Estimate, works: Works, plain: Estimate) -> bool:
    """Whether the smaller error is the map's; not one that the scatter of quarters denies."""
    chance = chance_of_quarters(works)
    return mapped.stderr < plain.stderr and (chance is None or chance > HOPELESS_CHANCE)


def row(estimate: Estimate) -> EstimateRow:
    """One line of the table of estimates."""
    found = estimate.diagnostics
    fractions = [found[k] for k in found if k.startswith("ess_fraction")]
    tails = [found[k] for k in found if k.startswith("pareto_k")]
    return EstimateRow(
        method=estimate.method,
        value=estimate.value,
        stderr=estimate.stderr,
        n_eff=estimate.n_eff,
        ess_fraction=min(fractions, default=None),
        pareto_k=max(tails, default=None),
        overlap=found.get("overlap"),
    )


def other_units(estimate: Estimate, temperature: float | None) -> list[OtherUnit]:
    """The same difference in kJ/mol, kcal/mol and eV, where the temperature is known."""
    if temperature is None:
        return []
    kT = BOLTZMANN["kJ/mol"] * temperature
    scales = {u: convert_energy(kT, "kJ/mol", u) for u in BOLTZMANN if u != "epsilon"}
    return [OtherUnit(u, estimate.value * s, estimate.stderr * s) for u, s in scales.items()]


def _ordered(
    headline: Estimate, estimates: Mapping[str, Estimate], plain: Works, mapped: Mapped | None
) -> list[Estimate]:
    rows = [headline, *(e for e in estimates.values() if e is not headline)]
    if mapped is not None:
        rows += mapped.works.sides(f", {mapped.name} map")
    return rows + list(plain.sides())


def losses(n_lost: int, n_kept: int) -> list[Check]:
    """A check on samples without a finite energy in their own state, if there are any."""
    if n_lost == 0:
        return []
    part = n_lost / (n_lost + n_kept)
    return [at_most("samples left out", part, 1e-3, "no finite energy of their own", hard=0.05)]


def _gain(
    estimates: Mapping[str, Estimate], mapped: Mapped | None, one_box: bool
) -> list[Observable]:
    """Variance without the map over that with it, on the same samples; error from quarters."""
    if mapped is None or not one_box:
        return []
    gain = variance_ratio(estimates["same"], estimates["mapped"])
    quarters = [
        variance_ratio(plain, through)
        for plain, through in zip(mapped.same.blocks(), mapped.works.blocks(), strict=False)
    ]
    error = np.nan
    if len(quarters) > 1 and min(quarters) > 0.0:
        # Ratios scatter like a log-normal: the error is relative, from their logarithms.
        error = np.std(np.log(quarters), ddof=1) / len(quarters) ** 0.5
    return [Observable("variance reduction", gain, gain * float(error))]


def variance_ratio(plain: Estimate, mapped: Estimate) -> float:
    """By how much a map lowers the variance of an estimate, which is the samples it saves."""
    return (plain.stderr / max(mapped.stderr, 1e-300)) ** 2


def _overfitting(mapped: Mapped | None) -> list[Observable]:
    """Mean dissipation <w_F> + <w_R> (kT) on the samples of the fit and on the others."""
    if mapped is None or mapped.fitted is None:
        return []
    return [
        _dissipation("dissipation, fitted samples", mapped.fitted),
        _dissipation("dissipation, evaluated samples", mapped.works),
        _dissipation("dissipation without a map", mapped.same),
    ]


def _dissipation(name: str, works: Works) -> Observable:
    lower, upper = work_bounds(works.forward, works.reverse, g=works.g)
    return Observable(name, upper.value - lower.value, float(np.hypot(upper.stderr, lower.stderr)))
