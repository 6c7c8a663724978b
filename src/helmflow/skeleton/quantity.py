"""What is computed, and what a family found out about it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from helmflow.estimators.estimate import Estimate
from helmflow.results import Bounds, Check, EstimateRow, Observable, OtherUnit
from helmflow.system import Reference, System

Array = np.ndarray
Name = Literal["helmholtz_free_energy", "free_energy_difference", "log_partition_function"]


@dataclass(frozen=True)
class Quantity:
    """How a free energy f in kT of the whole system becomes the number that a person reads.

    value = sign (f - constant) / n_divided

    ``constant`` is ln of what multiplies the integral in the partition function, in kT. ``units``
    are factors from the value to other units, ``references`` what is known of it.
    """

    name: Name
    convention: str
    unit: Literal["kT", "nat"] = "kT"
    per: Literal["particle", "system"] = "system"
    sign: float = 1.0
    constant: float = 0.0
    n_divided: int = 1
    n_particles: int | None = None
    units: Mapping[str, float] = field(default_factory=dict)
    length_unit: str | None = None
    references: tuple[Reference, ...] = ()

    def value(self, free_energy: float) -> float:
        """The quantity from a free energy in kT of the whole system."""
        return self.sign * (free_energy - self.constant) / self.n_divided

    def stderr(self, stderr: float) -> float:
        """Its standard error from that of the free energy."""
        return stderr / self.n_divided

    def row(self, estimate: Estimate) -> EstimateRow:
        """One line of the table of estimates; of two-sided diagnostics the worse side."""
        diagnostics = estimate.diagnostics
        fractions = [x for name, x in diagnostics.items() if name.startswith("ess_fraction")]
        tails = [x for name, x in diagnostics.items() if name.startswith("pareto_k")]
        return EstimateRow(
            method=estimate.method,
            value=self.value(estimate.value),
            stderr=self.stderr(estimate.stderr),
            n_eff=None if math.isnan(estimate.n_eff) else estimate.n_eff,
            ess_fraction=min(fractions, default=None),
            pareto_k=max(tails, default=None),
            overlap=diagnostics.get("overlap"),
        )

    def bounds(self, bounds: Bounds) -> Bounds:
        """Bounds of the quantity from bounds of the free energy; a change of sign swaps them."""
        ends = [
            (self.value(end), None if stderr is None else self.stderr(stderr))
            for end, stderr in (
                (bounds.lower, bounds.lower_stderr),
                (bounds.upper, bounds.upper_stderr),
            )
        ]
        lower, upper = ends if self.sign > 0.0 else ends[::-1]
        return Bounds(lower[0], upper[0], lower[1], upper[1])

    def in_other_units(self, value: float, stderr: float) -> tuple[OtherUnit, ...]:
        """The value in every other unit that applies."""
        return tuple(OtherUnit(u, value * s, stderr * s) for u, s in self.units.items())


@dataclass(frozen=True)
class Finding:
    """What a family found, free energies in kT of the whole system; the skeleton judges it.

    ``headline``: the estimate whose value the result is, the first of the table; ``rows``: the
    others. ``method``: what the result is called after, the headline's method if empty.
    ``one_sided``: whether all evidence comes from samples of one side, which cannot show a region
    that they missed. ``arrays`` go to ``work.npz``, whose names the report knows.
    """

    headline: Estimate
    checks: tuple[Check, ...]
    arrays: Mapping[str, Array]
    rows: tuple[Estimate, ...] = ()
    observables: tuple[Observable, ...] = ()
    bounds: Bounds | None = None
    one_sided: bool = False
    method: str = ""
    base: str | None = None
    acceptance: float | None = None
    value_exact: float | None = None
    kl_exact: float | None = None


def ln_z(system: System) -> Quantity:
    """ln Z = -f of a field or density, in nats."""
    return Quantity(
        "log_partition_function",
        system.convention,
        unit="nat",
        sign=-1.0,
        n_particles=system.n_particles,
        length_unit=system.units.length,
        references=system.references,
    )
