"""Frames that are there more than once: a restart written twice, one file given for two states."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Self

import numpy as np

from helmflow.results import Check
from helmflow.shapes import Configs
from helmflow.skeleton.checks import copied_frames
from helmflow.skeleton.limits import COPIES


@dataclass(frozen=True)
class Repeats:
    """Of samples of several states: ``times`` each frame is there, and the checks that say so.

    ``times[k]`` = n / (n - copies) multiplies the statistical inefficiency of state k. A frame
    equal to the one before is no copy but a rejected Monte Carlo move, which the correlation of
    the series knows of; nor is any of discrete variables, all of whose numbers are whole.
    """

    times: tuple[float, ...]
    checks: tuple[Check, ...]

    @classmethod
    def of(cls, names: Sequence[str], samples: Sequence[Configs]) -> Self:
        """Compares the samples of all states with each other, bit by bit."""
        rows = [_digests(x) for x in samples]
        copied = {name: _copies(own) for name, own in zip(names, rows, strict=True)}
        sizes = [max(len(x), 1) for x in samples]
        shared = {
            f"{names[i]} and {names[j]}": (n, min(sizes[i], sizes[j]))
            for i, j in combinations(range(len(rows)), 2)
            if (n := len(set(rows[i]) & set(rows[j]))) > 1  # they may begin with the same frame
        }
        within = {k: (n, s) for (k, n), s in zip(copied.items(), sizes, strict=True)}
        checks = (
            *copied_frames("copies of frames", within, "copies of others of its state"),
            *copied_frames("frames of two states", shared, "those of both", hard=COPIES.hard),
        )
        times = [s / (s - n) for n, s in zip(copied.values(), sizes, strict=True)]
        return cls(tuple(times), checks)


def _digests(x: Configs) -> list[bytes]:
    """One per frame; none of discrete variables."""
    frames = np.ascontiguousarray(x.numpy())
    if np.array_equal(frames, np.round(frames)):
        return []
    return [blake2b(frame.tobytes(), digest_size=16).digest() for frame in frames]


def _copies(rows: Sequence[bytes]) -> int:
    """Frames that were there before, but not just before."""
    seen, n, last = set(), 0, b""
    for row in rows:
        n += row in seen and row != last
        seen.add(row)
        last = row
    return n
