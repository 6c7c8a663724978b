"""Work values in pieces: computed anywhere, in any order, merged later."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from helmflow.bijectors.base import Bijector, Identity, Inverse
from helmflow.errors import InputError
from helmflow.families.two_states.boxes import (
    barostat_checks,
    check_joined,
    check_keeps_boxes,
    share_a_box,
)
from helmflow.families.two_states.comparable import check_comparable
from helmflow.families.two_states.comparison import Comparison
from helmflow.families.two_states.difference import (
    convention_of,
    difference,
    particles_of,
    temperature_of,
)
from helmflow.families.two_states.endpoints import SampledPair, State
from helmflow.families.two_states.mapped import Mapped, fit_other_half, name_of
from helmflow.families.two_states.membership import checks_of_series, field_series, looked_at
from helmflow.families.two_states.repeats import Repeats
from helmflow.families.two_states.targeted import TargetedResult, concluded
from helmflow.families.two_states.two_sided import Works, usable
from helmflow.generalised_work import ReducedPotential, work
from helmflow.results import Check, Cost
from helmflow.shapes import Configs
from helmflow.skeleton.checks import samples_left_out
from helmflow.skeleton.run import Run
from helmflow.training.map_fit import MapFit

Array = np.ndarray
Shard = Mapping[str, Array]
"""Arrays of one piece: works by direction, plain and mapped, and which samples they are of."""

SAME = {
    "sizes": "numbers of samples",
    "map": "maps",
    "seed": "seeds",
    "temperature": "temperatures",
    "digest": "samples",
    "probe": "states",
    "map_probe": "maps",
}
"""What all shards of one calculation agree in."""

WORKS = ("plain_w_", "w_", "fitted_w_")
"""Without a map, through it, and through it on the half of the samples it was fitted to."""

PROBED = 4
"""Samples of each side whose energies in both states tell states apart."""

AGREE = {"probe": (1e-5, 1e-3), "map_probe": (1e-5, 0.05)}
"""Differences, relative and in kT, that other machines may make of energies, and of works through
a map that each has fitted for itself."""


def work_shard(
    state_a: State,
    state_b: State,
    samples_a: ArrayLike | Tensor,
    samples_b: ArrayLike | Tensor,
    *,
    part: tuple[int, int],
    map: Bijector | MapFit | None = None,  # noqa: A002 - the literature's word
    seed: int = 0,
    notes: Sequence[Check] = (),
) -> Shard:
    """Works in kT of every n-th sample of both sides, ``part = (i, n)`` with 1 <= i <= n.

    All shards of one calculation take the same arguments but ``part``; a `MapFit` is fitted again
    in each, to the same samples with the same seed, always to the half of the series that a
    sample is not in. A sample without a finite energy in its own state has works NaN. ``notes``
    are checks that the merged result shall have too. Raises ``InputError`` as `targeted_fep`.
    """
    i, n = part
    if not 1 <= i <= n:
        raise InputError("shard", "i/n with 1 <= i <= n", f"{i}/{n}")
    run = Run.in_memory("shard", seed)
    pair = SampledPair.of(state_a, state_b, samples_a, samples_b)
    check_comparable(pair.states, map)
    x, u = pair.samples, pair.potentials(run.budget)
    shard = {"part": np.array([i, n]), "seed": np.array(seed), **_heading(pair, map, notes)}
    shard["probe"] = _probe(x, u)
    able = torch.isfinite(x[0]).flatten(1).all(1)
    check_keeps_boxes(map, x[0][able], state_a)
    halves, middles = _maps(map, x, u, run)
    shard["map_probe"] = _map_probe(x, u, halves)
    if not shard["one_box"]:
        check_joined([half for half in halves if half], x[0][able], state_a, state_b)
    for side, (sign, state) in enumerate(zip("FR", (state_a, state_b), strict=True)):
        rows = np.arange(len(x[side]))[i - 1 :: n]
        shard[f"index_{sign}"] = rows
        late = rows >= middles[side]
        shard[f"plain_w_{sign}"] = _works(x[side], rows, late, u, side, [None, None])
        if map is not None:
            shard[f"w_{sign}"] = _works(x[side], rows, late, u, side, halves)
        if isinstance(map, MapFit):
            shard[f"fitted_w_{sign}"] = _works(x[side], rows, ~late, u, side, halves)
        possible = rows[~np.isnan(shard[f"plain_w_{sign}"])]
        seen = np.intersect1d(looked_at(state, len(x[side])), possible)
        series = field_series(state, x[side], seen)
        if series is not None:
            shard[f"fields_{sign}"] = series
    cost = run.budget.cost()
    shard["cost"] = np.array([cost.cpu_seconds, cost.energy_evaluations])
    return shard


def _heading(
    pair: SampledPair, bijector: Bijector | MapFit | None, notes: Sequence[Check]
) -> dict[str, Array]:
    """What all shards of one calculation have in common."""
    states, x = pair.states, pair.samples
    temperature = temperature_of(*states)
    repeats = Repeats.of("AB", x)
    checks = [*notes, *barostat_checks(*states), *repeats.checks]
    return {
        "sizes": np.array([len(side) for side in x]),
        "map": np.array("none" if bijector is None else name_of(bijector)),
        "n_particles": np.array(particles_of(states[0], x[0]) or 0),
        "temperature": np.array(math.nan if temperature is None else temperature),
        "digest": np.array(_digest(x)),
        "times": np.array(repeats.times),
        "notes": np.array(json.dumps([asdict(check) for check in checks])),
        "one_box": np.array(share_a_box(*states)),
        "convention": np.array(convention_of(*states)),
    }


def merge_shards(
    shards: Sequence[Shard], *, seed: int = 0, name: str = "A to B"
) -> TargetedResult:
    """The estimate from all shards of one calculation, the same as without shards.

    Its cost is that of all shards: a map was fitted in each.
    Raises ``InputError`` naming the missing ones when they are not complete, and for shards of
    different calculations.
    """
    run = Run.in_memory(name, seed)
    _require_one_calculation(shards)
    keys = [k + sign for k in WORKS for sign in "FR" if k + sign in shards[0]]
    columns = {key: _column(shards, key) for key in keys}
    n_lost = sum(int(np.isnan(columns[f"plain_w_{sign}"]).sum()) for sign in "FR")
    works = {k: v[~np.isnan(v)] for k, v in columns.items()}
    first, mapped, fitted = shards[0], None, None
    times = tuple(first["times"].tolist())
    plain = usable(works["plain_w_F"], works["plain_w_R"], times)
    if "w_F" in works:
        through = usable(works["w_F"], works["w_R"], times)
        if "fitted_w_F" in works:
            fitted = Works(works["fitted_w_F"], works["fitted_w_R"], times)
        mapped = Mapped(through, plain, (), str(first["map"]), fitted)
    temperature = None if np.isnan(first["temperature"]) else float(first["temperature"])
    particles = int(first["n_particles"]) or None
    quantity = difference(str(first["convention"]), temperature, particles)
    left_out = samples_left_out(n_lost, plain.forward.size + plain.reverse.size)
    notes = (*_stored_checks(shards), *left_out)
    run.budget.restore(_cost(shards))
    comparison = Comparison(quantity, plain, mapped, notes, bool(first["one_box"]))
    return concluded(comparison, run, temperature)


def _require_one_calculation(shards: Sequence[Shard]) -> None:
    """Raises ``InputError`` unless the shards are all parts of one calculation."""
    n = int(shards[0]["part"][1])
    other = [SAME[k] for k in SAME if any(not _agree(k, s[k], shards[0][k]) for s in shards)]
    if other or any(int(s["part"][1]) != n for s in shards):
        what = f"different {' and '.join(dict.fromkeys(other)) or 'numbers of them'}"
        raise InputError("shards", "shards of one calculation", what)
    parts: dict[int, Shard] = {}
    for shard in shards:
        k = int(shard["part"][0])
        if not _same_works(shard, parts.setdefault(k, shard)):
            raise InputError("shards", "one of every part", f"two that differ of part {k}")
    missing = sorted(set(range(1, n + 1)) - set(parts))
    if missing:
        listed = ", ".join(str(k) for k in missing[:8]) + (" ..." if len(missing) > 8 else "")
        raise InputError("shards", f"all {n} of them", f"none for {listed}")


def _same_works(a: Shard, b: Shard) -> bool:
    """Of one part, perhaps computed twice, by other machines."""
    keys = [k + sign for k in WORKS for sign in "FR" if k + sign in a or k + sign in b]
    relative, absolute = AGREE["map_probe"]
    return all(
        k in a and k in b and np.allclose(a[k], b[k], relative, absolute, equal_nan=True)
        for k in keys
    )


def _cost(shards: Sequence[Shard]) -> Cost:
    """What they took together, computed at the same time."""
    seconds, energies = zip(*(shard["cost"] for shard in shards), strict=True)
    return Cost(float(sum(seconds)), float(max(seconds)), int(sum(energies)))


def _column(shards: Sequence[Shard], key: str) -> Array:
    """Works of all shards in the order of the samples."""
    sign = key[-1]
    whole = np.full(int(shards[0]["sizes"]["FR".index(sign)]), math.nan)
    for shard in shards:
        whole[shard[f"index_{sign}"]] = shard[key]
    return whole


def _stored_checks(shards: Sequence[Shard]) -> list[Check]:
    """The notes, and whether the samples are at their state."""
    notes = [Check(**note) for note in json.loads(str(shards[0]["notes"]))]
    order = sorted(range(len(shards)), key=lambda k: int(shards[k]["part"][0]))
    for name, sign in zip("AB", "FR", strict=True):
        series = [shards[k][f"fields_{sign}"] for k in order if f"fields_{sign}" in shards[k]]
        if series:
            notes += checks_of_series(name, np.concatenate(series))
    return notes


def _digest(x: Sequence[Configs]) -> str:
    """Of the samples."""
    digest = hashlib.sha256()
    for side in x:
        digest.update(np.ascontiguousarray(side.numpy()).tobytes())
    return digest.hexdigest()


def _probe(x: Sequence[Configs], u: Sequence[ReducedPotential]) -> Array:
    """Reduced energies of the first samples of both sides in both states, which tell states apart.

    Of any state, and equal on machines of different arithmetic up to ``AGREE``.
    """
    first = torch.cat([side[:PROBED] for side in x])
    with torch.no_grad():
        return torch.stack([potential(first) for potential in u]).numpy()


def _map_probe(
    x: Sequence[Configs], u: Sequence[ReducedPotential], halves: Sequence[Bijector | None]
) -> Array:
    """Works of the first samples of both sides through the maps of both halves."""
    first = np.arange(PROBED)
    return np.stack(
        [
            _works(x[side], first, np.full(PROBED, bool(half)), u, side, halves)
            for side in (0, 1)
            for half in (0, 1)
        ]
    )


def _agree(key: str, a: Array, b: Array) -> bool:
    if key not in AGREE or a.shape != b.shape:
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    relative, absolute = AGREE[key]
    return np.allclose(a, b, rtol=relative, atol=absolute, equal_nan=True)


def _maps(
    given: Bijector | MapFit | None,
    x: tuple[Configs, Configs],
    u: tuple[ReducedPotential, ReducedPotential],
    run: Run,
) -> tuple[list[Bijector | None], list[int]]:
    """The map for the first and for the second half of each series, and where that begins.

    Halves of the samples that have an energy of their own, as in `targeted_fep`.
    """
    if not isinstance(given, MapFit):
        return [given, given], [0, 0]
    with torch.no_grad():
        able = [torch.isfinite(u_own(side)) for u_own, side in zip(u, x, strict=True)]
    possible = x[0][able[0]], x[1][able[1]]
    middles = [int(torch.nonzero(a)[round(0.5 * int(a.sum()))]) for a in able]
    generator = run.stream("map")
    halves = [fit_other_half(given, start, possible, u, generator) for start in (0.0, 0.5)]
    return list(halves), middles


def _works(
    x: Configs,
    rows: Array,
    late: Array,
    u: Sequence[ReducedPotential],
    side: int,
    halves: Sequence[Bijector | None],
) -> Array:
    """Works of some samples of one side; NaN where a sample is impossible in its state."""
    works = np.full(len(rows), math.nan)
    for half, bijector in enumerate(halves):
        here = np.flatnonzero(late == bool(half))
        if not here.size:
            continue
        there = bijector or Identity()
        with torch.no_grad():
            u_own = u[side](x[torch.from_numpy(rows[here])])
            able = torch.isfinite(u_own)
            here, u_own = here[able.numpy()], u_own[able]
            if not here.size:
                continue
            samples = x[torch.from_numpy(rows[here])]
            known = lambda _, u_own=u_own: u_own  # noqa: E731 - its energies are known already
            w = work(samples, known, u[1 - side], Inverse(there) if side else there)
        works[here] = torch.where(w.isnan(), torch.inf, w).numpy()  # nan: it left the numbers
    return works
