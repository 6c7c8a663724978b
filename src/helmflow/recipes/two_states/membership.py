"""Do samples belong to the state they are said to come from? Their energies betray it."""

import math

import numpy as np
import torch

from helmflow.energies.openmm import OpenMMEnergy
from helmflow.recipes.path.certificate import at_most
from helmflow.recipes.two_states.endpoints import End, State
from helmflow.recipes.two_states.two_sided import inefficiency
from helmflow.results import Check
from helmflow.thermo import ThermodynamicState

Array = np.ndarray
REACH = (0.08, 0.25)
"""Widths (nm) of the pair functions: bonds and angles; what is not bonded."""

SAMPLES = (256, 4096)
"""Least and most configurations a side that are looked at."""

PAIRS = 3e7
"""Pairs a side that are looked at, where that is more than the least samples have."""

SIGNIFICANT = 4.0
SOFT, HARD = 0.03, 0.10


def membership_checks(states: tuple[State, State], ends: tuple[End, End]) -> list[Check]:
    """One check per side: the temperature that the forces on the samples correspond to.

    With v_i = sum_j r_ij exp(-r_ij^2 / 2 s^2) over pairs, samples of exp(-u) have
    <v . grad u> = <div v> (partial integration), so the ratio of the two is the temperature of the
    samples over that of the state. Another state, another temperature and coordinates that were
    rounded all show. Only for OpenMM energies, which give forces.
    """
    checks = []
    for name, state, end in zip("AB", states, ends, strict=True):
        energy = state.energy if isinstance(state, ThermodynamicState) else None
        if not isinstance(energy, OpenMMEnergy) or not isinstance(state, ThermodynamicState):
            continue
        off = max(configurational_excess(energy, state.beta, end, reach) for reach in REACH)
        checks.append(
            at_most(
                f"samples of {name} are at their state",
                off,
                SOFT,
                "relative error of their configurational temperature, where significant",
                hard=HARD,
            )
        )
    return checks


def configurational_excess(energy: OpenMMEnergy, beta: float, end: End, reach: float) -> float:
    """|<v . grad u> / <div v> - 1|, or 0 when that is within its own noise."""
    n_wanted = np.clip(PAIRS / energy.n_particles**2, *SAMPLES)
    stride = max(int(len(end.x) / n_wanted), 1)
    x = end.x[::stride]
    _, gradient = energy.energy_and_gradient(x)
    real = torch.from_numpy(energy.masses > 0.0)
    box = energy.box.diagonal().copy() if energy.is_periodic else None
    push, divergence = np.array(
        [
            _pair_field(row[real].numpy(), beta * slope[real].numpy(), reach, box)
            for row, slope in zip(x, gradient, strict=True)
        ]
    ).T
    scale = float(divergence.mean())
    off = push - divergence
    stderr = math.sqrt(inefficiency(off) * off.var(ddof=1) / off.size)
    if not scale > 0.0 or abs(off.mean()) < SIGNIFICANT * stderr:
        return 0.0
    return abs(float(off.mean())) / scale


def _pair_field(x: Array, slope: Array, reach: float, box: Array | None) -> tuple[float, float]:
    """v . grad u and div v of one configuration."""
    i, j = np.triu_indices(len(x), 1)
    d = x[i] - x[j]
    if box is not None:  # far pairs do not count, so that a slanted box needs no more than this
        d -= box * np.round(d / box)
    r2 = np.einsum("pc,pc->p", d, d)
    g = np.exp(-0.5 * r2 / reach**2)
    push = np.einsum("p,pc,pc->", g, d, slope[i] - slope[j])
    return float(push), float((2.0 * g * (3.0 - r2 / reach**2)).sum())
