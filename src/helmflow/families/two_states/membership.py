"""Do samples belong to the state they are said to come from? Their forces betray it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from helmflow.energies.constant_pressure import BOX_ROWS, ConstantPressure
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.energies.openmm_boxes import has_volume
from helmflow.families.two_states.by_autograd import one_body_series
from helmflow.families.two_states.comparable import openmm_of
from helmflow.families.two_states.endpoints import State
from helmflow.families.two_states.one_body import OneBodyField, held_in_place
from helmflow.families.two_states.two_sided import inefficiency
from helmflow.families.two_states.volumes import volume_series
from helmflow.kernels.near_pairs import face_distances, near_pairs, pair_fields
from helmflow.results import Check
from helmflow.shapes import Configs
from helmflow.skeleton.checks import of_their_state
from helmflow.thermo import ThermodynamicState

Array = np.ndarray
REACH = np.array([0.08, 0.25])
"""Widths (nm) of the pair functions: bonds and angles; what is not bonded."""

CUT = 3.0
"""Reaches at which pair functions end, or half of a small box."""

FIELDS = len(REACH) + 2
"""Of positions alone, in front of those that also move the volume."""

STIFF, NEAR = 0.1, 0.3
"""Relative spread, and distance (nm), below which a pair is held together by bonds."""

SAMPLES = (256, 4096)
"""Least and most configurations a side that are looked at."""

PARTICLES = 5e5
"""Particles in all configurations looked at, where that is more than the least samples have."""

CHUNK = 1e6
"""Particles whose gradients are held at a time."""

FRAMES = 64
"""Configurations from which stiff pairs are known."""

FACTORS = {
    4.184: "kcal beside kJ",
    2.479: "k_B T at 298 K in kJ/mol",
    0.5925: "k_B T at 298 K in kcal/mol",
    0.025693: "k_B T at 298 K in eV",
}
"""By how much forces are too large, or too small, when energies are in another unit."""

ALIKE = 0.05
"""Relative difference from such a factor, which covers temperatures between 285 and 310 K."""

SIGNIFICANT = 4.0
"""Standard errors from one at which a ratio of temperatures is no matter of chance."""


@dataclass(frozen=True)
class Clusters:
    """What constraints hold together: ``owner`` (r,) of every particle with a mass, ``real`` (r,).

    ``leaders`` (c,) are the heaviest particles. A field that moves clusters as a whole respects
    all constraints, and the measure on their surface does not depend on where a cluster is.
    """

    real: Array
    owner: Array
    leaders: Array

    @classmethod
    def of(cls, energy: OpenMMEnergy) -> "Clusters":
        """Those of a System; without constraints every particle is its own."""
        n, masses = energy.n_particles, energy.masses
        i, j = energy.constraints[:, :2].astype(int).T
        _, labels = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)))
        real = np.flatnonzero(masses > 0.0)
        by_mass = real[np.argsort(-masses[real], kind="stable")]
        _, first, owner = np.unique(labels[by_mass], return_index=True, return_inverse=True)
        return cls(by_mass, owner, by_mass[first])

    def slopes(self, gradient: Array) -> Array:
        """Sums (c, 3) over clusters of a gradient (n, 3)."""
        weights = gradient[self.real]
        sums = [np.bincount(self.owner, weights[:, axis]) for axis in range(3)]
        return np.stack(sums, 1)


@dataclass(frozen=True)
class StiffPairs:
    """Pairs of clusters held together by bonds, and their mean distances, nm."""

    i: Array
    j: Array
    mean: Array


def membership_checks(states: Sequence[State], samples: Sequence[Configs]) -> list[Check]:
    """One check per state: the temperature that the forces on the samples correspond to.

    With any field v(x), samples of exp(-u) have <v . grad u> = <div v> (partial integration), so
    the ratio of the two is the temperature of the samples over that of the state. Fields are
    v_i = sum_j r_ij s(r_ij) exp(-r_ij^2 / 2 w^2) over pairs, (r_ij - mean) r_ij / |r_ij| over
    stiff ones, whose forces would be noise to the first, and where something outside holds the
    particles a `OneBodyField`; they move `Clusters` as a whole. Another state, another temperature
    and coordinates that were rounded all show. At constant pressure another check does the same
    with the volume, see `volume_series`. Other energies are asked for a derivative by autograd.
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
    worst = int(np.argmax(excess[:FIELDS]))
    belong, text = f"samples of {name} are at their state", f"{what}, {meaning}"
    checks = [of_their_state(belong, excess[worst], text + _unit(series[:, worst]))]
    if excess[FIELDS:]:
        what = "relative error of the virial and of how the volume fluctuates"
        volumes = f"volumes of {name} are of their pressure"
        checks.append(of_their_state(volumes, max(excess[FIELDS:]), f"{what}, {meaning}"))
    return checks


def looked_at(state: State, n: int) -> Array:
    """Indices of the samples to look at, of n."""
    energy = openmm_of(state)
    if energy is None:
        costly = getattr(getattr(state, "energy", state), "costly", False)
        n_wanted = SAMPLES[0 if costly else 1]
    else:
        n_wanted = np.clip(PARTICLES / energy.n_particles, *SAMPLES)
    return np.arange(n)[:: max(round(n / n_wanted), 1)]


def field_series(state: State, x: Configs, rows: Array) -> Array | None:
    """v . grad u and div v (n, fields, 2) of the samples ``rows`` of x; None if nothing is known.

    Stiff pairs are those of all x, so that parts of the rows can be computed anywhere.
    """
    energy = openmm_of(state)
    if energy is None or not isinstance(state, ThermodynamicState):
        return one_body_series(state, x, rows)
    boxes, whole = None, x
    if isinstance(state.energy, ConstantPressure):
        x, boxes = x[:, :-BOX_ROWS], x[:, -BOX_ROWS:].numpy()
    elif energy.is_periodic:
        boxes = np.broadcast_to(energy.box, (len(x), 3, 3))
    clusters, series, finite = Clusters.of(energy), [], []
    stiff = _stiff_pairs(x.numpy(), boxes, clusters.leaders)
    alone = OneBodyField.of(x.numpy()[:, clusters.leaders]) if boxes is None else None
    step = max(int(CHUNK / energy.n_particles), 1)
    for part in (rows[k : k + step] for k in range(0, len(rows), step)):
        given = None if boxes is None else boxes[part]
        values, gradient = energy.energy_and_gradient(x[torch.from_numpy(part)], given)
        able = np.isfinite(values.numpy())
        finite.append(part[able])
        for k, slope in zip(part[able], gradient.numpy()[able], strict=True):
            slopes = state.beta * clusters.slopes(slope)
            box = None if boxes is None else boxes[k]
            points = x[k].numpy()[clusters.leaders]
            series.append([*_fields(points, slopes, stiff, box), _one_body(alone, points, slopes)])
    fields = np.array(series).reshape(len(series), FIELDS, 2)
    if not isinstance(state.energy, ConstantPressure):
        return fields
    of_finite = np.concatenate([rows[:0], *finite])
    return np.concatenate([fields, volume_series(state.energy, state.beta, whole, of_finite)], 1)


def _unit(series: Array) -> str:
    """The unit that explains the ratio of v . grad u and div v (n, 2), if one does."""
    push, divergence = np.nanmean(series, 0)
    ratio = abs(push / divergence) if divergence else 1.0
    for factor, what in FACTORS.items():
        for power, name in ((1, f"{factor:g}"), (-1, f"1/{factor:g}")):
            if abs(ratio * factor**-power - 1.0) < ALIKE:
                return f"; forces are {ratio:.3g} times what samples show, about {name}: {what}?"
    return ""


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


def _fields(x: Array, slopes: Array, stiff: StiffPairs, box: Array | None) -> Array:
    """v . grad u and div v (fields, 2) of one configuration (c, 3) of clusters."""
    found = np.zeros((len(REACH) + 1, 2))
    cuts = np.minimum(CUT * REACH, _half(box))
    pair_fields(*near_pairs(x, box, float(cuts.max())), slopes, REACH, cuts, found[:-1])
    d = _nearest(x[stiff.i] - x[stiff.j], box)
    slack = 1.0 - stiff.mean / np.sqrt(np.einsum("pc,pc->p", d, d))
    push = np.einsum("pc,pc->p", d, slopes[stiff.i] - slopes[stiff.j])
    # div of d (1 - mean / r) is 3 - 2 mean / r = 1 + 2 slack, once for each of the two
    found[-1] = slack @ push, (2.0 * (1.0 + 2.0 * slack)).sum()
    return found


def _one_body(field: OneBodyField | None, x: Array, slopes: Array) -> tuple[float, float]:
    """v . grad u and div v; nothing where no outside force makes single positions stationary."""
    if field is None or not held_in_place(slopes[None])[0]:
        return 0.0, 0.0
    push, divergence = field(x[None], slopes[None])
    return float(push[0]), float(divergence[0])


def _stiff_pairs(x: Array, boxes: Array | None, leaders: Array) -> StiffPairs:
    able = np.isfinite(x).all((1, 2))
    frames = np.flatnonzero(able if boxes is None else able & has_volume(boxes))
    frames = frames[:: max(len(frames) // FRAMES, 1)]
    i = j = np.empty(0, dtype=int)
    mean = square = np.empty(0)
    for n, k in enumerate(frames):
        box, points = None if boxes is None else boxes[k], x[k, leaders]
        if n == 0:
            i, j, _ = near_pairs(points, box, min(NEAR, _half(box)))
            mean = square = np.zeros(len(i))
        r = np.linalg.norm(_nearest(points[i] - points[j], box), axis=1)
        change = r - mean
        mean = mean + change / (n + 1)
        square = square + change * (r - mean)
    stiff = square < len(frames) * (STIFF * mean) ** 2
    return StiffPairs(i[stiff], j[stiff], mean[stiff])


def _half(box: Array | None) -> float:
    return math.inf if box is None else 0.5 * float(face_distances(box).min())


def _nearest(d: Array, box: Array | None) -> Array:
    """Vectors (p, 3) to the nearest image, for those shorter than half of the box."""
    return d if box is None else d - np.round(d @ np.linalg.inv(box)) @ box
