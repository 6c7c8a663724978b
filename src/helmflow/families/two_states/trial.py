"""The energies of sampled states on trial."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from helmflow.families.two_states.endpoints import CarefulPotential, finite_rows
from helmflow.shapes import Configs, Values
from helmflow.skeleton.energy_trial import EnergyTrial
from helmflow.skeleton.limits import NOTICEABLE
from helmflow.skeleton.run import Run

FIRST = (4, 2)
"""Samples of a state on which energies are tried first: of cheap energies, of costly ones."""

REPEATED = 16
"""Times the root of their number: samples whose energies are asked for again at the end. What
moves a free energy by three errors happens to 3/sqrt(n) of them, thus to fifty of these."""


def try_states(
    u: Sequence[CarefulPotential], samples: Sequence[Configs], run: Run
) -> list[EnergyTrial]:
    """A trial of every potential, on samples of all states; raises InputError as `EnergyTrial`.

    Coarse at first, because the error is not known before the end: large systems in single
    precision change by tenths of kT from call to call.
    """
    trials = []
    for k, potential in enumerate(u):
        rows = [x[finite_rows(x)][: FIRST[potential.costly]] for x in samples]
        x = torch.cat(rows).clone()
        trials.append(run.try_energy(EnergyTrial(potential, x, 10.0 * NOTICEABLE), f"trial {k}"))
    return trials


def witness(trials: Sequence[EnergyTrial], x: Configs, energies: Sequence[Values]) -> None:
    """Have energies of samples x in all states asked for again, where that costs little."""
    rows = some_rows(len(x))
    for trial, values in zip(trials, energies, strict=True):
        if not getattr(trial.u, "costly", False):
            trial.witness(x[rows], values[rows])


def some_rows(n: int) -> Tensor:
    """Indices of samples, evenly spread over a series of n."""
    return torch.linspace(0, n - 1, min(n, math.ceil(REPEATED * math.sqrt(n)))).long()


def trial_evaluations(*sizes: int) -> int:
    """Energies that the trials of as many cheap states take, of these numbers of samples."""
    first, n_states = FIRST[0] * len(sizes), len(sizes)
    return n_states * (3 * first + 2 + sum(len(some_rows(n)) for n in sizes))
