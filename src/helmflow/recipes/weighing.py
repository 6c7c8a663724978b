"""Samples of a flow, drawn and weighed in rounds until ln Z is known well enough."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from helmflow.estimators.estimate import Estimate
from helmflow.estimators.fep import fep
from helmflow.recipes.path.rounds import Progress
from helmflow.results import Event, RunDirectory
from helmflow.settings import Settings
from helmflow.streams import stream

Columns = Mapping[str, Tensor]
"""What is known of the samples, one row each: ``work`` and whatever else was measured."""

Draw = Callable[[int, Generator], Columns]


class Counted(Protocol):
    """Something that counts its energy evaluations."""

    n_evaluations: int


@dataclass(frozen=True)
class Rounds:
    """Samples drawn at a time, in the first round, and at most; every round doubles them."""

    batch: int
    least: int
    most: int


@dataclass
class Clock:
    """Processor and wall seconds of all processes that worked on a run."""

    before: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self._start = (time.process_time(), time.time())

    def spent(self) -> tuple[float, float]:
        """Both, up to now."""
        now = (time.process_time(), time.time())
        cpu, wall = (b + t - s for b, t, s in zip(self.before, now, self._start, strict=True))
        return cpu, wall


def weighed(
    draw: Draw,
    rounds: Rounds,
    energies: Counted,
    settings: Settings,
    directory: RunDirectory | None,
    clock: Clock,
    progress: Progress,
) -> tuple[Columns, Estimate]:
    """Draw until the error of ln Z is at most ``target_error``, or the samples run out.

    A ``directory`` keeps every round; an interrupted run goes on after the last of them and ends
    with the same numbers. Returns the columns and the free energy -ln Z by one-sided perturbation.
    """
    goal, generator = settings.target_error or math.inf, stream(settings.seed, "samples")
    columns: Columns = {}
    wanted = rounds.least
    saved = None if directory is None else directory.load_checkpoint()
    if saved is not None:
        tensors, header = saved
        generator.set_state(tensors.pop("generator"))
        clock.before = tuple(tensors.pop("spent").tolist())
        columns, energies.n_evaluations = tensors, int(header["energies"])
        wanted = int(header["wanted"])
    limit = min(rounds.most, settings.max_evaluations or rounds.most)
    while True:
        known = _length(columns)
        columns = _filled(columns, draw, wanted, rounds.batch, generator)
        estimate = fep(columns["work"].numpy())
        if _length(columns) > known:
            done, count = min(1.0, goal / max(estimate.stderr, 1e-300)), energies.n_evaluations
            progress(Event("sampling", done, 1.0, "", -estimate.value, estimate.stderr, count))
            if directory is not None:
                state = {
                    "generator": generator.get_state(),
                    "spent": torch.tensor(clock.spent(), dtype=torch.float64),
                }
                header = {"energies": str(count), "wanted": str(wanted)}
                directory.save_checkpoint({**columns, **state}, header)
        if estimate.stderr <= goal or 2 * wanted > limit:
            return columns, estimate
        wanted *= 2


def _filled(
    columns: Columns, draw: Draw, wanted: int, batch: int, generator: Generator
) -> Columns:
    """At least ``wanted`` rows."""
    parts = [columns] if columns else []
    for _ in range(0, wanted - _length(columns), batch):
        with torch.no_grad():
            parts.append(draw(batch, generator))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _length(columns: Columns) -> int:
    return len(columns["work"]) if columns else 0
