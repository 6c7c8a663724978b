"""Free energies of several sampled states by MBAR."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.estimators.mbar import MultistateEstimate
from helmflow.families.two_states.boxes import barostat_checks, share_a_box
from helmflow.families.two_states.comparable import check_comparable
from helmflow.families.two_states.difference import convention_of, difference, temperature_of
from helmflow.families.two_states.endpoints import State, as_samples, reduced_potential
from helmflow.families.two_states.equilibrium import left_out, settled
from helmflow.families.two_states.membership import membership_checks
from helmflow.families.two_states.repeats import Repeats
from helmflow.families.two_states.tables import Tables
from helmflow.families.two_states.trial import try_states, witness
from helmflow.families.two_states.two_sided import ENOUGH_FOR_BLOCKS
from helmflow.families.two_states.two_sided_checks import crooks_relation, second_law
from helmflow.results import Check, Observable, Result
from helmflow.results.exchange import u_nk
from helmflow.shapes import Configs
from helmflow.skeleton.checks import (
    agreement,
    effective_samples,
    failed_energies,
    halves_agree,
    one_distribution,
    overlap,
    samples_left_out,
)
from helmflow.skeleton.convergence import convergence
from helmflow.skeleton.limits import OVERLAP
from helmflow.skeleton.quantity import Finding, Quantity
from helmflow.skeleton.run import Run

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

REPLICAS = (
    "; samples of all states have one distribution, as series of replicas have that were not "
    "sorted by state"
)


@dataclass(frozen=True)
class MultistateResult:
    """Free energies of K states from samples of all; ``result`` is that of last minus first, kT.

    ``potentials[k]`` (n_k, K) are the reduced potentials of the samples of state k in all states.
    """

    result: Result
    states: MultistateEstimate
    tables: Tables
    quantity: Quantity
    temperature: float | None

    @property
    def potentials(self) -> tuple[Array, ...]:
        return self.tables.potentials

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
        overlap = self.states.overlap
        sampled = ~np.isnan(np.diag(overlap))
        return {
            "u_kn": np.concatenate(self.potentials).T,
            "n_k": np.array([len(p) for p in self.potentials]),
            "f_k": self.states.f_k,
            "stderr_ij": self.states.stderr_ij,
            "overlap": overlap[np.ix_(sampled, sampled)],
            **_convergence(self.tables, self.quantity),
        }


def multistate(
    states: Sequence[State],
    samples: Sequence[Tensor],
    *,
    seed: int = 0,
    equilibrate: bool = False,
    name: str = "states",
    notes: Sequence[Check] = (),
) -> MultistateResult:
    """MBAR over K states, cross-checked by BAR between neighbours.

    ``samples[k]`` (n_k, ...) are from state k, in time order; neighbours in the list should
    overlap. Samples without a finite energy in their own state are left out, and
    with ``equilibrate`` what comes before the works of a series have settled (see
    `equilibration`). ``notes`` are checks of where the samples come from, which are graded with
    the others. Raises ``InputError`` for fewer than two states, samples of different shapes, or
    several boxes.
    """
    run = Run.in_memory(name, seed)
    if len(states) < 2 or len(states) != len(samples):
        raise InputError("samples", f"one set for each of 2 or more states ({len(states)})", "")
    check_comparable(states)
    if not share_a_box(*states):
        raise InputError("system", "one box for all states, as there are no maps", "several")
    potentials, own_samples, notes_of_energies = _evaluated(states, samples, run)
    if equilibrate:
        potentials, own_samples, settling = _equilibrated(potentials, own_samples)
        notes_of_energies.append(settling)
    names = [str(k) for k in range(len(states))]
    repeats = Repeats.of(names, own_samples)
    tables = Tables(tuple(potentials), repeats.times)
    solution = tables.mbar()
    checks = [
        *checks_of(tables, solution),
        *membership_checks(states, own_samples),
        *barostat_checks(*states),
        *notes_of_energies,
        *repeats.checks,
        *notes,
    ]
    temperature, convention = temperature_of(*states), convention_of(*states)
    ends = "f of the last state minus f of the first"
    quantity = difference(convention.replace("f_B - f_A", ends), temperature)
    result = run.conclude(quantity, _finding(solution, tables, checks))
    return MultistateResult(result, solution, tables, quantity, temperature)


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


def _equilibrated(
    potentials: Sequence[Array], samples: Sequence[Configs]
) -> tuple[list[Array], list[Configs], Check]:
    """Every series from where the works to its neighbours have settled."""
    found = {}
    for k, table in enumerate(potentials):
        series = since_settled(table, k, range(len(potentials)))
        found[str(k)] = (settled(series), len(table))
    starts = [e.start for e, _ in found.values()]
    tables = [table[t:] for table, t in zip(potentials, starts, strict=True)]
    return tables, [x[t:] for x, t in zip(samples, starts, strict=True)], left_out(found)


def since_settled(table: Array, k: int, sampled: Sequence[int]) -> list[Array]:
    """What must have settled in samples (n, K) of state k: the works to its neighbours."""
    at = list(sampled).index(k)
    near = [sampled[i] for i in (at - 1, at + 1) if 0 <= i < len(sampled)]
    return [table[:, j] - table[:, k] for j in near]


def checks_of(tables: Tables, solution: MultistateEstimate) -> list[Check]:
    """The certificate of states whose samples know each other's potentials."""
    ends = solution.difference(0, len(tables.times) - 1)
    bars = tables.bars()
    pairs = [pair.diagnostics["overlap"] for pair in bars]
    checks = [
        effective_samples(float(solution.n_eff.min()), "least"),
        overlap(min(pairs), "neighbours, two by two"),
        *([agreement("mbar against bar", ends, tables.sum_of_bars())] if tables.complete else []),
        second_law(*tables.neighbours()),
        *crooks_relation(*bars, hint=REPLICAS if tables.one_distribution() else ""),
    ]
    if min(tables.sizes) >= ENOUGH_FOR_BLOCKS and min(pairs) > OVERLAP.hard:
        checks.append(halves_agree(*(tables.part(k / 2, (k + 1) / 2).ends() for k in (0, 1))))
    twins = tables.one_energy()
    if twins:
        j, k, worst = max(twins, key=lambda twin: twin[2])
        checks.append(one_distribution(worst, f"{j} and {k}"))
    return checks


def _finding(solution: MultistateEstimate, tables: Tables, checks: Sequence[Check]) -> Finding:
    last = len(tables.times) - 1
    # the ends need not overlap
    headline = replace(solution.difference(0, last), diagnostics={})
    labels = [str(k) for k in range(last + 1)]
    observables = free_energies(solution, labels)
    return Finding(
        headline, tuple(checks), {}, rows=(tables.sum_of_bars(),), observables=observables
    )


def free_energies(states: MultistateEstimate, labels: Sequence[str]) -> tuple[Observable, ...]:
    """f of every state relative to the first, for the table."""
    return tuple(
        Observable(f"f({label}) - f({labels[0]})", float(f), float(stderr))
        for label, f, stderr in zip(labels[1:], states.f_k[1:], states.stderr_k[1:], strict=True)
    )


def _convergence(tables: Tables, quantity: Quantity) -> Mapping[str, Array]:
    if (
        min(tables.sizes) < ENOUGH_FOR_BLOCKS
        or min(b.diagnostics["overlap"] for b in tables.bars()) < OVERLAP.hard
    ):
        return {}
    return convergence(lambda start, stop: tables.part(start, stop).ends(), quantity)
