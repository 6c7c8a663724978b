"""Work values in pieces: computed anywhere, in any order, merged later."""

import io
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from helmflow.bijectors.base import Bijector, Identity, Inverse
from helmflow.errors import InputError
from helmflow.generalised_work import work
from helmflow.recipes.two_states.endpoints import (
    CarefulPotential,
    State,
    as_samples,
    reduced_potential,
)
from helmflow.recipes.two_states.mapped import Mapped, fit_other_half, name_of
from helmflow.recipes.two_states.outcome import (
    Costs,
    Question,
    losses,
    particles_of,
    temperature_of,
)
from helmflow.recipes.two_states.targeted import TargetedResult, assemble
from helmflow.recipes.two_states.two_sided import Works, usable
from helmflow.streams import stream
from helmflow.training.atomic import write_atomically
from helmflow.training.map_fit import MapFit

Array = np.ndarray
Shard = Mapping[str, Array]
"""Arrays of one piece: works by direction, plain and mapped, and which samples they are of."""

NAME = re.compile(r"shard-(\d+)-of-(\d+)\.npz")
DAMAGED = (OSError, ValueError, EOFError, KeyError, BadZipFile)


def work_shard(
    state_a: State,
    state_b: State,
    samples_a: ArrayLike | Tensor,
    samples_b: ArrayLike | Tensor,
    *,
    part: tuple[int, int],
    map: Bijector | MapFit | None = None,  # noqa: A002 - the literature's word
    seed: int = 0,
) -> Shard:
    """Works in kT of every n-th sample of both sides, ``part = (i, n)`` with 1 <= i <= n.

    All shards of one calculation take the same arguments but ``part``; a `MapFit` is fitted again
    in each, to the same samples with the same seed, always to the half of the series that a
    sample is not in. A sample without a finite energy in its own state has works NaN. Raises
    ``InputError`` as `targeted_fep`.
    """
    i, n = part
    if not 1 <= i <= n:
        raise InputError("shard", "i/n with 1 <= i <= n", f"{i}/{n}")
    clock = time.process_time()
    x = [as_samples("samples_a", samples_a), as_samples("samples_b", samples_b)]
    if x[0].shape[1:] != x[1].shape[1:]:
        raise InputError("samples_b", f"events {tuple(x[0].shape[1:])}", tuple(x[1].shape[1:]))
    u = [CarefulPotential(reduced_potential(state)) for state in (state_a, state_b)]
    temperature = temperature_of(state_a, state_b)
    shard = {
        "part": np.array([i, n]),
        "sizes": np.array([len(side) for side in x]),
        "map": np.array("none" if map is None else name_of(map)),
        "n_particles": np.array(particles_of(state_a, x[0]) or 0),
        "temperature": np.array(math.nan if temperature is None else temperature),
    }
    halves = _maps(map, x, u, seed)
    for side, sign in ((0, "F"), (1, "R")):
        chosen = np.arange(len(x[side]))[i - 1 :: n]
        shard[f"index_{sign}"] = chosen
        shard[f"plain_w_{sign}"] = _works(x[side], chosen, u, side, [None, None])
        if map is not None:
            shard[f"w_{sign}"] = _works(x[side], chosen, u, side, halves)
    shard["cost"] = np.array([time.process_time() - clock, sum(p.n_evaluations for p in u)])
    return shard


def save_shard(folder: Path, shard: Shard) -> Path:
    """Write a shard to its own file, whole or not at all; returns the path."""
    i, n = (int(k) for k in shard["part"])
    path = folder / f"shard-{i:04d}-of-{n:04d}.npz"
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **shard)
    write_atomically(path, buffer.getvalue())
    return path


def load_shards(folder: Path) -> list[Shard]:
    """All shards in a folder; ``InputError`` when there is none or one is damaged."""
    found = []
    for path in sorted(folder.glob("shard-*.npz")):
        if not NAME.fullmatch(path.name):
            continue
        try:
            with np.load(path, allow_pickle=False) as archive:
                found.append({name: archive[name] for name in archive.files})
        except DAMAGED as error:
            raise InputError("shards", "readable shard files", f"{path} ({error})") from error
    if not found:
        raise InputError("shards", "files shard-0001-of-....npz", f"none in {folder}")
    return found


def merge_shards(
    shards: Sequence[Shard], *, seed: int = 0, name: str = "A to B"
) -> TargetedResult:
    """The estimate from all shards of one calculation, the same as without shards.

    Raises ``InputError`` naming the missing ones when they are not complete, and for shards of
    different calculations.
    """
    clock = (time.process_time(), time.time())
    n = int(shards[0]["part"][1])
    if any(not np.array_equal(s[k], shards[0][k]) for s in shards for k in ("sizes", "map")) or (
        any(int(s["part"][1]) != n for s in shards)
    ):
        raise InputError("shards", "shards of one calculation", "different samples or maps")
    missing = sorted(set(range(1, n + 1)) - {int(s["part"][0]) for s in shards})
    if missing:
        listed = ", ".join(str(k) for k in missing[:8]) + (" ..." if len(missing) > 8 else "")
        raise InputError("shards", f"all {n} of them", f"none for {listed}")
    columns = {k: _column(shards, k) for k in ("plain_w_F", "plain_w_R", "w_F", "w_R")}
    n_lost = sum(int(np.isnan(columns[f"plain_w_{sign}"]).sum()) for sign in "FR")
    kept = {k: v[~np.isnan(v)] for k, v in columns.items() if v is not None}
    plain = usable(kept["plain_w_F"], kept["plain_w_R"])
    mapped = None
    if "w_F" in kept:
        works = usable(kept["w_F"], kept["w_R"])
        mapped = Mapped(works, Works(plain.forward, plain.reverse), (), str(shards[0]["map"]))
    temperature = float(shards[0]["temperature"])
    question = Question(
        name,
        int(shards[0]["n_particles"]) or None,
        None if math.isnan(temperature) else temperature,
        seed,
    )
    costs = Costs(clock, int(sum(s["cost"][1] for s in shards)))
    more = losses(n_lost, plain.forward.size + plain.reverse.size)
    return assemble(question, plain, mapped, more, costs)


def _column(shards: Sequence[Shard], key: str) -> Array | None:
    """Works of all shards in the order of the samples."""
    if key not in shards[0]:
        return None
    sign = key[-1]
    whole = np.full(int(shards[0]["sizes"]["FR".index(sign)]), math.nan)
    for shard in shards:
        whole[shard[f"index_{sign}"]] = shard[key]
    return whole


def _maps(
    given: Bijector | MapFit | None, x: list[Tensor], u: list[CarefulPotential], seed: int
) -> list[Bijector | None]:
    """The map for the first and for the second half of each series."""
    if not isinstance(given, MapFit):
        return [given, given]
    generator = stream(seed, "map")
    return [
        fit_other_half(given, start, x[0], x[1], u[0], u[1], generator) for start in (0.0, 0.5)
    ]


def _works(
    x: Tensor,
    chosen: Array,
    u: list[CarefulPotential],
    side: int,
    halves: Sequence[Bijector | None],
) -> Array:
    """Works of the chosen samples of one side; NaN where a sample is impossible in its state."""
    found = np.full(len(chosen), math.nan)
    middle = round(0.5 * len(x))
    for half, bijector in enumerate(halves):
        here = (chosen >= middle) == bool(half)
        if not here.any():
            continue
        rows = x[torch.from_numpy(chosen[here])]
        there = bijector or Identity()
        with torch.no_grad():
            own = u[side](rows)
            w = work(rows, lambda _, own=own: own, u[1 - side], Inverse(there) if side else there)
        w = torch.where(w.isnan(), torch.inf, w)  # a map that left the numbers
        found[here] = torch.where(torch.isfinite(own), w, torch.nan).numpy()
    return found
