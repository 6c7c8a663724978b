"""Free energies of several sampled states by MBAR."""

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
from helmflow.families.two_states.boxes import barostat_checks, share_a_box
from helmflow.families.two_states.difference import convention_of, difference, temperature_of
from helmflow.families.two_states.endpoints import State, as_samples, reduced_potential
from helmflow.families.two_states.membership import membership_checks
from helmflow.families.two_states.trial import try_states, witness
from helmflow.families.two_states.two_sided import ENOUGH_FOR_BLOCKS, Works, inefficiency
from helmflow.families.two_states.two_sided_checks import second_law
from helmflow.results import Check, Result
from helmflow.results.exchange import u_nk
from helmflow.shapes import Configs
from helmflow.skeleton.checks import (
    OVERLAP,
    agreement,
    effective_samples,
    failed_energies,
    halves_agree,
    overlap,
    samples_left_out,
)
from helmflow.skeleton.convergence import convergence
from helmflow.skeleton.quantity import Finding, Quantity
from helmflow.skeleton.run import Run

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
    quantity: Quantity
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
            **_convergence(self.potentials, self.quantity),
        }


def multistate(
    states: Sequence[State],
    samples: Sequence[Tensor],
    *,
    seed: int = 0,
    name: str = "states",
    notes: Sequence[Check] = (),
) -> MultistateResult:
    """MBAR over K states, cross-checked by BAR between neighbours.

    ``samples[k]`` (n_k, ...) are from state k, in time order; neighbours in the list should
    overlap. Samples without a finite energy in their own state are left out. ``notes`` are checks
    of where the samples come from, which are graded with the others. Raises
    ``InputError`` for fewer than two states, samples of different shapes, or several boxes.
    """
    run = Run.in_memory(name, seed)
    if len(states) < 2 or len(states) != len(samples):
        raise InputError("samples", f"one set for each of 2 or more states ({len(states)})", "")
    if not share_a_box(*states):
        raise InputError("system", "one box for all states, as there are no maps", "several")
    potentials, own_samples, notes_of_energies = _evaluated(states, samples, run)
    solution = _mbar(potentials)
    checks = [
        *_checks(potentials, solution),
        *membership_checks(states, own_samples),
        *barostat_checks(*states),
        *notes_of_energies,
        *notes,
    ]
    temperature, convention = temperature_of(*states), convention_of(*states)
    ends = "f of the last state minus f of the first"
    quantity = difference(convention.replace("f_B - f_A", ends), temperature)
    result = run.conclude(quantity, _finding(solution, potentials, checks))
    return MultistateResult(result, solution, tuple(potentials), quantity, temperature)


def _evaluated(
    states: Sequence[State], samples: Sequence[Tensor], run: Run
) -> tuple[list[Array], list[Configs], list[Check]]:
    """Reduced potentials (n_k, K), the samples that have one of their own, and who lacks one."""
    u = [reduced_potential(state, run.budget) for state in states]
    configurations = [as_samples(f"samples {k}", x) for k, x in enumerate(samples)]
    trials = try_states(u, configurations, run)
    potentials, own_samples, n_lost = [], [], 0
    for k, x in enumerate(configurations):
        table = torch.stack([u_k(x).detach().to(torch.float64) for u_k in u], dim=1)
        witness(trials, x, tuple(table.T))
        finite = torch.isfinite(table[:, k])
        potentials.append(table[finite].numpy())
        own_samples.append(x[finite])
        n_lost += int((~finite).sum())
    n_all, n_failed = sum(len(x) for x in configurations), sum(u_k.n_failed for u_k in u)
    notes = [
        *samples_left_out(n_lost, n_all - n_lost),
        *failed_energies(n_failed, n_all * len(u)),
    ]
    return potentials, own_samples, notes


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


def _checks(potentials: Sequence[Array], solution: MultistateEstimate) -> list[Check]:
    ends = solution.difference(0, len(potentials) - 1)
    works = _neighbours(potentials)
    pairs = [w.bar().diagnostics["overlap"] for w in works]
    checks = [
        effective_samples(float(solution.n_eff.min()), "least"),
        overlap(min(pairs), "neighbours, two by two"),
        agreement("mbar against bar", ends, _sum_of_bars(potentials)),
        second_law(*works),
    ]
    if min(len(p) for p in potentials) >= ENOUGH_FOR_BLOCKS and min(pairs) > OVERLAP.hard:
        halves = [_mbar([_part(p, k / 2, (k + 1) / 2) for p in potentials]) for k in (0, 1)]
        first, last = (half.difference(0, len(potentials) - 1) for half in halves)
        checks.append(halves_agree(first, last))
    return checks


def _finding(
    solution: MultistateEstimate, potentials: Sequence[Array], checks: Sequence[Check]
) -> Finding:
    last = len(potentials) - 1
    # the ends need not overlap
    headline = replace(solution.difference(0, last), diagnostics={})
    steps = [
        replace(solution.difference(k, k + 1), method=f"mbar {k}-{k + 1}") for k in range(last)
    ]
    return Finding(headline, tuple(checks), {}, rows=(_sum_of_bars(potentials), *steps))


def _part(table: Array, start: float, stop: float) -> Array:
    low, high = round(start * len(table)), round(stop * len(table))
    return table[low : max(high, low + 2)]


def _convergence(potentials: Sequence[Array], quantity: Quantity) -> Mapping[str, Array]:
    least = min(works.bar().diagnostics["overlap"] for works in _neighbours(potentials))
    if min(len(p) for p in potentials) < ENOUGH_FOR_BLOCKS or least < OVERLAP.hard:
        return {}

    def ends(start: float, stop: float) -> Estimate:
        solution = _mbar([_part(p, start, stop) for p in potentials])
        return solution.difference(0, len(potentials) - 1)

    return convergence(ends, quantity)
