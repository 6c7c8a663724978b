"""Free energies of several sampled states by MBAR."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.mbar import MultistateEstimate, mbar
from helmflow.families.path.certificate import (
    ENOUGH,
    HOPELESS_OVERLAP,
    at_least,
    at_most,
    sigmas,
)
from helmflow.families.two_states.boxes import barostat_checks, share_a_box
from helmflow.families.two_states.endpoints import (
    CarefulPotential,
    End,
    State,
    as_samples,
    reduced_potential,
)
from helmflow.families.two_states.membership import membership_checks
from helmflow.families.two_states.outcome import (
    Costs,
    convention_of,
    losses,
    other_units,
    row,
    temperature_of,
)
from helmflow.families.two_states.two_sided import (
    CONVERGENCE_POINTS,
    ENOUGH_FOR_BLOCKS,
    Works,
    inefficiency,
)
from helmflow.families.two_states.two_sided_checks import second_law
from helmflow.results import Check, Result, grade
from helmflow.results.exchange import u_nk

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray


@dataclass(frozen=True)
class MultistateResult:
    """Free energies of K states from samples of all; ``result`` is that of last minus first, kT.

    ``potentials[k]`` (n_k, K) are the reduced potentials of the samples of state k in all states.
    """

    result: Result
    states: MultistateEstimate
    potentials: tuple[Array, ...]
    temperature: float | None

    def __str__(self) -> str:
        return str(self.result)

    def u_nk(self) -> "pd.DataFrame":
        """All reduced potentials as an alchemlyb ``u_nk`` frame; needs pandas."""
        return u_nk(self.potentials, self.temperature)

    def as_pymbar(self) -> dict[str, object]:
        """``Delta_f``, ``dDelta_f`` (K, K) as ``pymbar.MBAR``, and ``u_kn``, ``N_k``; kT."""
        f = self.states.f_k
        return {
            "Delta_f": f[None, :] - f[:, None],
            "dDelta_f": self.states.stderr_ij,
            "u_kn": np.concatenate(self.potentials).T,
            "N_k": np.array([len(p) for p in self.potentials]),
        }

    def arrays(self) -> Mapping[str, Array]:
        """What goes to ``work.npz``."""
        return {
            "u_kn": np.concatenate(self.potentials).T,
            "n_k": np.array([len(p) for p in self.potentials]),
            "f_k": self.states.f_k,
            "stderr_ij": self.states.stderr_ij,
            "overlap": self.states.overlap,
            **_convergence(self.potentials),
        }


def multistate(
    states: Sequence[State], samples: Sequence[Tensor], *, seed: int = 0, name: str = "states"
) -> MultistateResult:
    """MBAR over K states, cross-checked by BAR between neighbours.

    ``samples[k]`` (n_k, ...) are from state k, in time order; neighbours in the list should
    overlap. Samples without a finite energy in their own state are left out. Raises
    ``InputError`` for fewer than two states, samples of different shapes, or several boxes.
    """
    clock = (time.process_time(), time.time())
    if len(states) < 2 or len(states) != len(samples):
        raise InputError("samples", f"one set for each of 2 or more states ({len(states)})", "")
    if not share_a_box(*states):
        raise InputError("system", "one box for all states, as there are no maps", "several")
    careful = [CarefulPotential(reduced_potential(state)) for state in states]
    configurations = [as_samples(f"samples {k}", x) for k, x in enumerate(samples)]
    potentials, ends = [], []
    for k, x in enumerate(configurations):
        table = torch.stack([u(x).detach().to(torch.float64) for u in careful], dim=1)
        kept = torch.isfinite(table[:, k])
        near = k + 1 if k + 1 < len(states) else k - 1
        lost = int((~kept).sum())
        ends.append(End(x[kept], table[kept, k], table[kept, near], lost))
        potentials.append(table[kept].numpy())
    found = _mbar(potentials)
    checks = [
        *_checks(potentials, found),
        *membership_checks(states, ends),
        *barostat_checks(*states),
        *losses(sum(end.n_dropped for end in ends), sum(len(p) for p in potentials)),
    ]
    costs = Costs(clock, sum(u.n_evaluations for u in careful))
    temperature = temperature_of(*states)
    said = convention_of(*states)
    result = _result(name, found, checks, costs, seed, temperature, said, potentials)
    return MultistateResult(result, found, tuple(potentials), temperature)


def _mbar(potentials: Sequence[Array]) -> MultistateEstimate:
    g = [_inefficiency(k, table) for k, table in enumerate(potentials)]
    return mbar(np.concatenate(potentials).T, [len(p) for p in potentials], g=g)


def _inefficiency(k: int, table: Array) -> float:
    """That of the work to the neighbours, the larger of the two."""
    near = [j for j in (k - 1, k + 1) if 0 <= j < table.shape[1]]
    return max(inefficiency(table[:, j] - table[:, k]) for j in near)


def _neighbours(potentials: Sequence[Array]) -> list[Works]:
    return [
        Works(lower[:, k + 1] - lower[:, k], upper[:, k] - upper[:, k + 1])
        for k, (lower, upper) in enumerate(pairwise(potentials))
    ]


def _sum_of_bars(potentials: Sequence[Array]) -> Estimate:
    parts = [works.bar() for works in _neighbours(potentials)]
    # Neighbouring pairs share the samples between them; every other pair is independent.
    stderr = sum(float(np.hypot.reduce([p.stderr for p in parts[k::2]])) for k in (0, 1))
    return Estimate(
        sum(p.value for p in parts), stderr, min(p.n_eff for p in parts), "bar, summed"
    )


def _checks(potentials: Sequence[Array], found: MultistateEstimate) -> list[Check]:
    ends = found.difference(0, len(potentials) - 1)
    works = _neighbours(potentials)
    pairs = [w.bar().diagnostics["overlap"] for w in works]
    checks = [
        at_least("effective samples", float(found.n_eff.min()), ENOUGH, "least", hard=10.0),
        at_least("overlap", min(pairs), 0.03, "neighbours, two by two", hard=HOPELESS_OVERLAP),
        at_most("mbar against bar", sigmas(ends, _sum_of_bars(potentials)), 2.0, "errors"),
        second_law(*works),
    ]
    if min(len(p) for p in potentials) >= ENOUGH_FOR_BLOCKS and min(pairs) > HOPELESS_OVERLAP:
        halves = [_mbar([_part(p, k / 2, (k + 1) / 2) for p in potentials]) for k in (0, 1)]
        first, last = (half.difference(0, len(potentials) - 1) for half in halves)
        checks.append(at_most("halves agree", sigmas(first, last), 3.0, "standard errors"))
    return checks


def _result(
    name: str,
    found: MultistateEstimate,
    checks: list[Check],
    costs: Costs,
    seed: int,
    temperature: float | None,
    convention: str,
    potentials: Sequence[Array],
) -> Result:
    last = len(potentials) - 1
    ends = found.difference(0, last)
    ends = replace(ends, diagnostics={})  # the ends need not overlap
    steps = [replace(found.difference(k, k + 1), method=f"mbar {k}-{k + 1}") for k in range(last)]
    letter, reason = grade(checks, one_sided=False)
    return Result(
        system=name,
        quantity="free_energy_difference",
        value=ends.value,
        stderr=ends.stderr,
        unit="kT",
        per="system",
        convention=convention.replace("f_B - f_A", "f of the last state minus f of the first"),
        method="mbar",
        grade=letter,
        reason=reason,
        checks=tuple(checks),
        estimates=tuple(row(e) for e in (ends, _sum_of_bars(potentials), *steps)),
        other_units=tuple(other_units(ends, temperature)),
        cost=costs.total(),
        seed=seed,
    )


def _part(table: Array, start: float, stop: float) -> Array:
    low, high = round(start * len(table)), round(stop * len(table))
    return table[low : max(high, low + 2)]


def _convergence(potentials: Sequence[Array]) -> Mapping[str, Array]:
    least = min(works.bar().diagnostics["overlap"] for works in _neighbours(potentials))
    if min(len(p) for p in potentials) < ENOUGH_FOR_BLOCKS or least < HOPELESS_OVERLAP:
        return {}
    fractions = np.linspace(1.0 / CONVERGENCE_POINTS, 1.0, CONVERGENCE_POINTS)
    arrays = {"convergence_fraction": fractions}
    for name, ends in (
        ("forward", [(0.0, f) for f in fractions]),
        ("reverse", [(1.0 - f, 1.0) for f in fractions]),
    ):
        found = [_mbar([_part(p, *end) for p in potentials]) for end in ends]
        arrays[f"convergence_{name}"] = np.array([m.f_k[-1] for m in found])
        arrays[f"convergence_{name}_stderr"] = np.array([m.stderr_k[-1] for m in found])
    return arrays
