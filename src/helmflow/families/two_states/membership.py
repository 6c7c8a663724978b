"""Do samples belong to the state they are said to come from? Their energies betray it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from helmflow.energies.constant_pressure import BOX_ROWS, ConstantPressure
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.families.two_states.endpoints import State
from helmflow.families.two_states.two_sided import inefficiency
from helmflow.families.two_states.volumes import volume_series
from helmflow.results import Check
from helmflow.shapes import Configs
from helmflow.skeleton.checks import of_their_state
from helmflow.thermo import ThermodynamicState

Array = np.ndarray
REACH = (0.08, 0.25)
"""Widths (nm) of the pair functions: bonds and angles; what is not bonded."""

FIELDS = len(REACH) + 1
"""Of positions alone, in front of those that also move the volume."""

STIFF, NEAR = 0.1, 0.3
"""Relative spread, and distance (nm), below which a pair is held together by bonds."""

SAMPLES = (256, 4096)
"""Least and most configurations a side that are looked at."""

PAIRS = 3e7
"""Pairs a side that are looked at, where that is more than the least samples have."""

FRAMES = 64
"""Configurations from which stiff pairs are known."""

SIGNIFICANT = 4.0
"""Standard errors from one at which a ratio of temperatures is no matter of chance."""


@dataclass(frozen=True)
class StiffPairs:
    """Pairs of particles held together by bonds, and their mean distances, nm."""

    i: Array
    j: Array
    mean: Array


def membership_checks(states: Sequence[State], samples: Sequence[Configs]) -> list[Check]:
    """One check per state: the temperature that the forces on the samples correspond to.

    With any field v(x), samples of exp(-u) have <v . grad u> = <div v> (partial integration), so
    the ratio of the two is the temperature of the samples over that of the state. Fields are
    v_i = sum_j r_ij exp(-r_ij^2 / 2 s^2) over pairs, and (r_ij - mean) r_ij / |r_ij| over stiff
    ones, whose forces would be noise to the first. Another state, another temperature and
    coordinates that were rounded all show. At constant pressure another check does the same with
    the volume, see `volume_series`. Only for OpenMM energies, which give forces.
    """
    names = "AB" if len(states) == 2 else [str(k) for k in range(len(states))]
    checks = []
    for name, state, x in zip(names, states, samples, strict=True):
        series = field_series(state, x, looked_at(state, len(x)))
        if series is not None:
            checks += checks_of_series(name, series)
    return checks


def checks_of_series(name: str, series: Array) -> list[Check]:
    """Those of one state from its `field_series`, of all samples looked at in time order."""
    excess = [_excess(push, divergence) for push, divergence in series.transpose(1, 2, 0)]
    what, meaning = "relative error of their configurational temperature", "where significant"
    checks = [
        of_their_state(
            f"samples of {name} are at their state", max(excess[:FIELDS]), f"{what}, {meaning}"
        )
    ]
    if excess[FIELDS:]:
        what = "relative error of the virial and of how the volume fluctuates"
        volumes = f"volumes of {name} are of their pressure"
        checks.append(of_their_state(volumes, max(excess[FIELDS:]), f"{what}, {meaning}"))
    return checks


def looked_at(state: State, n: int) -> Array:
    """Indices of the samples to look at, of n; none where a state has no OpenMM energy."""
    energy = _openmm(state)
    if energy is None:
        return np.arange(0)
    n_wanted = np.clip(PAIRS / energy.n_particles**2, *SAMPLES)
    return np.arange(n)[:: max(int(n / n_wanted), 1)]


def field_series(state: State, x: Configs, rows: Array) -> Array | None:
    """v . grad u and div v (n, fields, 2) of the samples ``rows`` of x; None if not OpenMM's.

    Stiff pairs are those of all x, so that parts of the rows can be computed anywhere.
    """
    energy = _openmm(state)
    if energy is None or not isinstance(state, ThermodynamicState):
        return None
    boxes, whole = None, x
    if isinstance(state.energy, ConstantPressure):
        x, boxes = x[:, :-BOX_ROWS], x[:, -BOX_ROWS:].numpy()
    elif energy.is_periodic:
        boxes = np.broadcast_to(energy.box, (len(x), 3, 3))
    real = torch.from_numpy(energy.masses > 0.0)
    edges = None if boxes is None else np.diagonal(boxes, axis1=1, axis2=2)
    stiff = _stiff_pairs(x[:, real].numpy(), edges)
    given = boxes[rows] if boxes is not None and len(rows) else None
    values, gradient = energy.energy_and_gradient(x[torch.from_numpy(rows)], given)
    rows_of_fields = [
        _fields(
            x[k, real].numpy(),
            state.beta * slope[real].numpy(),
            stiff,
            None if edges is None else edges[k],
        )
        for k, value, slope in zip(rows, values, gradient, strict=True)
        if math.isfinite(value)
    ]
    series = np.array(rows_of_fields).reshape(len(rows_of_fields), FIELDS, 2)
    if not isinstance(state.energy, ConstantPressure):
        return series
    finite = rows[torch.isfinite(values).numpy()]
    return np.concatenate([series, volume_series(state.energy, state.beta, whole, finite)], 1)


def _openmm(state: State) -> OpenMMEnergy | None:
    energy = state.energy if isinstance(state, ThermodynamicState) else None
    if isinstance(energy, ConstantPressure):
        return energy.openmm
    return energy if isinstance(energy, OpenMMEnergy) else None


def _excess(push: Array, divergence: Array) -> float:
    """|<v . grad u> / <div v> - 1|, or 0 when that is within its own noise."""
    known = np.isfinite(push)
    push, divergence = push[known], divergence[known]
    if len(push) < 4 or not divergence.mean() > 0.0:  # for example no stiff pairs
        return 0.0
    scale, off = float(divergence.mean()), push - divergence
    stderr = math.sqrt(inefficiency(off) * off.var(ddof=1) / off.size)
    if abs(off.mean()) < SIGNIFICANT * stderr:
        return 0.0
    return abs(float(off.mean())) / scale


def _fields(
    x: Array, slope: Array, stiff: StiffPairs, box: Array | None
) -> list[tuple[float, float]]:
    """v . grad u and div v of one configuration for every field."""
    i, j = np.triu_indices(len(x), 1)
    d = _nearest(x[i] - x[j], box)
    r2 = np.einsum("pc,pc->p", d, d)
    push = np.einsum("pc,pc->p", d, slope[i] - slope[j])
    fields = []
    for reach in REACH:
        g = np.exp(-0.5 * r2 / reach**2)
        fields.append((float(g @ push), float((2.0 * g * (3.0 - r2 / reach**2)).sum())))
    d = _nearest(x[stiff.i] - x[stiff.j], box)
    slack = 1.0 - stiff.mean / np.sqrt(np.einsum("pc,pc->p", d, d))
    push = np.einsum("pc,pc->p", d, slope[stiff.i] - slope[stiff.j])
    # div of d (1 - mean / r) is 3 - 2 mean / r = 1 + 2 slack, once for each of the two particles
    fields.append((float(slack @ push), float((2.0 * (1.0 + 2.0 * slack)).sum())))
    return fields


def _stiff_pairs(x: Array, boxes: Array | None) -> StiffPairs:
    able = np.isfinite(x).all((1, 2))
    frames = np.flatnonzero(able if boxes is None else able & np.isfinite(boxes).all(1))
    frames = frames[:: max(len(frames) // FRAMES, 1)]
    i, j = np.triu_indices(x.shape[1], 1)
    lengths = np.empty((0, 0))
    for k in frames:
        box = None if boxes is None else boxes[k]
        r = np.linalg.norm(_nearest(x[k, i] - x[k, j], box), axis=1)
        if k == frames[0]:
            near = r < NEAR
            i, j, r = i[near], j[near], r[near]
            lengths = np.empty((0, len(r)))
        lengths = np.concatenate([lengths, r[None]])
    mean = lengths.mean(0)
    stiff = lengths.std(0) < STIFF * mean
    return StiffPairs(i[stiff], j[stiff], mean[stiff])


def _nearest(d: Array, box: Array | None) -> Array:
    # Far pairs do not count, so that a slanted box needs no more than this.
    return d if box is None else d - box * np.round(d / box)
