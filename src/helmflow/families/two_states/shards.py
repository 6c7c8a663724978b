"""Work values in pieces: computed anywhere, in any order, merged later."""

import hashlib
import json
import math
import time
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
from helmflow.families.two_states.endpoints import (
    CarefulPotential,
    State,
    as_samples,
    reduced_potential,
)
from helmflow.families.two_states.mapped import Mapped, fit_other_half, name_of
from helmflow.families.two_states.membership import checks_of_series, field_series, looked_at
from helmflow.families.two_states.outcome import (
    Costs,
    Question,
    convention_of,
    losses,
    particles_of,
    temperature_of,
)
from helmflow.families.two_states.targeted import TargetedResult, assemble
from helmflow.families.two_states.two_sided import Works, usable
from helmflow.generalised_work import work
from helmflow.results import Check
from helmflow.streams import stream
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
    clock = time.process_time()
    x = [as_samples("samples_a", samples_a), as_samples("samples_b", samples_b)]
    if x[0].shape[1:] != x[1].shape[1:]:
        raise InputError("samples_b", f"events {tuple(x[0].shape[1:])}", tuple(x[1].shape[1:]))
    u = [CarefulPotential(reduced_potential(state)) for state in (state_a, state_b)]
    shard = {"part": np.array([i, n]), **_heading((state_a, state_b), x, map, seed, notes)}
    shard["probe"] = _probe(x, u)
    able = torch.isfinite(x[0]).flatten(1).all(1)
    check_keeps_boxes(map, x[0][able], state_a)
    halves, middles = _maps(map, x, u, seed)
    shard["map_probe"] = _map_probe(x, u, halves)
    if not shard["one_box"]:
        check_joined([half for half in halves if half], x[0][able], state_a, state_b)
    for side, (sign, state) in enumerate(zip("FR", (state_a, state_b), strict=True)):
        chosen = np.arange(len(x[side]))[i - 1 :: n]
        shard[f"index_{sign}"] = chosen
        late = chosen >= middles[side]
        shard[f"plain_w_{sign}"] = _works(x[side], chosen, late, u, side, [None, None])
        if map is not None:
            shard[f"w_{sign}"] = _works(x[side], chosen, late, u, side, halves)
        if isinstance(map, MapFit):
            shard[f"fitted_w_{sign}"] = _works(x[side], chosen, ~late, u, side, halves)
        possible = chosen[~np.isnan(shard[f"plain_w_{sign}"])]
        seen = np.intersect1d(looked_at(state, len(x[side])), possible)
        series = field_series(state, x[side], seen)
        if series is not None:
            shard[f"fields_{sign}"] = series
    shard["cost"] = np.array([time.process_time() - clock, sum(p.n_evaluations for p in u)])
    return shard


def _heading(
    states: tuple[State, State],
    x: Sequence[Tensor],
    bijector: Bijector | MapFit | None,
    seed: int,
    notes: Sequence[Check],
) -> dict[str, Array]:
    """What all shards of one calculation have in common."""
    temperature = temperature_of(*states)
    said = [*notes, *barostat_checks(*states)]
    return {
        "sizes": np.array([len(side) for side in x]),
        "map": np.array("none" if bijector is None else name_of(bijector)),
        "n_particles": np.array(particles_of(states[0], x[0]) or 0),
        "temperature": np.array(math.nan if temperature is None else temperature),
        "seed": np.array(seed),
        "digest": np.array(_digest(x)),
        "notes": np.array(json.dumps([asdict(note) for note in said])),
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
    clock = _clock(shards)
    n = int(shards[0]["part"][1])
    other = [SAME[k] for k in SAME if any(not _agree(k, s[k], shards[0][k]) for s in shards)]
    if other or any(int(s["part"][1]) != n for s in shards):
        found = f"different {' and '.join(dict.fromkeys(other)) or 'numbers of them'}"
        raise InputError("shards", "shards of one calculation", found)
    missing = sorted(set(range(1, n + 1)) - {int(s["part"][0]) for s in shards})
    if missing:
        listed = ", ".join(str(k) for k in missing[:8]) + (" ..." if len(missing) > 8 else "")
        raise InputError("shards", f"all {n} of them", f"none for {listed}")
    columns = {k + sign: _column(shards, k + sign) for k in WORKS for sign in "FR"}
    n_lost = sum(int(np.isnan(columns[f"plain_w_{sign}"]).sum()) for sign in "FR")
    kept = {k: v[~np.isnan(v)] for k, v in columns.items() if v is not None}
    plain = usable(kept["plain_w_F"], kept["plain_w_R"])
    mapped = None
    if "w_F" in kept:
        works = usable(kept["w_F"], kept["w_R"])
        fitted = Works(kept["fitted_w_F"], kept["fitted_w_R"]) if "fitted_w_F" in kept else None
        mapped = Mapped(works, plain, (), str(shards[0]["map"]), fitted)
    temperature = float(shards[0]["temperature"])
    question = Question(
        name,
        int(shards[0]["n_particles"]) or None,
        None if math.isnan(temperature) else temperature,
        seed,
        bool(shards[0]["one_box"]),
        str(shards[0]["convention"]),
    )
    costs = Costs(clock, int(sum(s["cost"][1] for s in shards)))
    more = [*_stored_checks(shards), *losses(n_lost, plain.forward.size + plain.reverse.size)]
    return assemble(question, plain, mapped, more, costs)


def _clock(shards: Sequence[Shard]) -> tuple[float, float]:
    """When the work would have begun in one go; shards were computed at the same time."""
    spent = [float(shard["cost"][0]) for shard in shards]
    return time.process_time() - sum(spent), time.time() - max(spent)


def _column(shards: Sequence[Shard], key: str) -> Array | None:
    """Works of all shards in the order of the samples."""
    if key not in shards[0]:
        return None
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


def _digest(x: Sequence[Tensor]) -> str:
    """Of the samples."""
    found = hashlib.sha256()
    for side in x:
        found.update(np.ascontiguousarray(side.numpy()).tobytes())
    return found.hexdigest()


def _probe(x: Sequence[Tensor], u: Sequence[CarefulPotential]) -> Array:
    """Reduced energies of the first samples of both sides in both states, which tell states apart.

    Of any state, and equal on machines of different arithmetic up to ``AGREE``.
    """
    first = torch.cat([side[:PROBED] for side in x])
    with torch.no_grad():
        return torch.stack([potential(first) for potential in u]).numpy()


def _map_probe(
    x: list[Tensor], u: list[CarefulPotential], halves: Sequence[Bijector | None]
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
    given: Bijector | MapFit | None, x: list[Tensor], u: list[CarefulPotential], seed: int
) -> tuple[list[Bijector | None], list[int]]:
    """The map for the first and for the second half of each series, and where that begins.

    Halves of the samples that have an energy of their own, as in `targeted_fep`.
    """
    if not isinstance(given, MapFit):
        return [given, given], [0, 0]
    with torch.no_grad():
        able = [torch.isfinite(u[k](x[k])) for k in (0, 1)]
    kept = [side[a] for side, a in zip(x, able, strict=True)]
    middles = [int(torch.nonzero(a)[round(0.5 * int(a.sum()))]) for a in able]
    generator = stream(seed, "map")
    halves = [fit_other_half(given, start, *kept, *u, generator) for start in (0.0, 0.5)]
    return list(halves), middles


def _works(
    x: Tensor,
    chosen: Array,
    late: Array,
    u: list[CarefulPotential],
    side: int,
    halves: Sequence[Bijector | None],
) -> Array:
    """Works of the chosen samples of one side; NaN where a sample is impossible in its state."""
    found = np.full(len(chosen), math.nan)
    for half, bijector in enumerate(halves):
        here = np.flatnonzero(late == bool(half))
        if not here.size:
            continue
        there = bijector or Identity()
        with torch.no_grad():
            own = u[side](x[torch.from_numpy(chosen[here])])
            able = torch.isfinite(own)
            here, own = here[able.numpy()], own[able]
            if not here.size:
                continue
            rows = x[torch.from_numpy(chosen[here])]
            w = work(rows, lambda _, own=own: own, u[1 - side], Inverse(there) if side else there)
        found[here] = torch.where(w.isnan(), torch.inf, w).numpy()  # nan: it left the numbers
    return found
