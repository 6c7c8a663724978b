"""Samples of a flow, drawn and weighed in rounds until ln Z is known well enough."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from helmflow.densities.flow import Flow
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.fep import fep
from helmflow.generalised_work import density_work
from helmflow.recipes.density.potential import CheckedPotential
from helmflow.recipes.path.rounds import Progress
from helmflow.recipes.weighing import Clock
from helmflow.results import Event, RunDirectory
from helmflow.settings import Settings
from helmflow.streams import stream

BATCH = 4096
LEAST_SAMPLES, MOST_SAMPLES = 16_384, 2_097_152

Columns = tuple[Tensor, ...]
"""Points, their log densities and their works."""


@dataclass(frozen=True)
class Weighed:
    """Samples of the flow (n, n_coordinates), their log q and their works (n,)."""

    x: Tensor
    log_q: Tensor
    work: Tensor
    estimate: Estimate


def weigh(
    flow: Flow,
    u: CheckedPotential,
    settings: Settings,
    directory: RunDirectory | None,
    clock: Clock,
    progress: Progress,
) -> Weighed:
    """Draw from the flow until ln Z is known well enough, in rounds that double.

    A ``directory`` keeps every round; an interrupted run goes on after the last of them and ends
    with the same numbers.
    """
    goal, generator = settings.target_error, stream(settings.seed, "samples")
    manifold = flow.base.manifold
    columns: Columns = tuple(
        torch.empty(0, *shape, dtype=torch.float64)
        for shape in ((manifold.n_coordinates,), (), ())
    )
    saved = None if directory is None else directory.load_checkpoint()
    wanted = LEAST_SAMPLES
    if settings.max_evaluations is not None and saved is None:
        wanted = min(wanted, _affordable(u, settings.max_evaluations))
    if saved is not None:
        tensors, header = saved
        columns = tensors["x"], tensors["log_q"], tensors["work"]
        generator.set_state(tensors["generator"])
        u.n_evaluations, wanted = int(header["energies"]), int(header["wanted"])
        clock.before = tuple(tensors["spent"].tolist())
    while True:
        known = len(columns[0])
        columns = _filled(columns, wanted, flow, u, generator)
        x, log_q, work = columns
        estimate = fep(work.numpy())
        if len(x) > known:
            done = min(1.0, (goal or math.inf) / max(estimate.stderr, 1e-300))
            counts = u.n_evaluations
            progress(Event("sampling", done, 1.0, "", -estimate.value, estimate.stderr, counts))
            _save(directory, columns, generator, clock, {"energies": counts, "wanted": wanted})
        spent_all = 2 * wanted > MOST_SAMPLES or _exhausted(u, wanted, settings)
        if goal is None or estimate.stderr <= goal or spent_all:
            return Weighed(x, log_q, work, estimate)
        wanted *= 2


def _save(
    directory: RunDirectory | None,
    columns: Columns,
    generator: torch.Generator,
    clock: Clock,
    counts: dict[str, int],
) -> None:
    if directory is None:
        return
    tensors = dict(zip(("x", "log_q", "work"), columns, strict=True))
    tensors["generator"] = generator.get_state()
    tensors["spent"] = torch.tensor(clock.spent(), dtype=torch.float64)
    directory.save_checkpoint(tensors, {name: str(value) for name, value in counts.items()})


def _filled(
    columns: Columns,
    wanted: int,
    flow: Flow,
    u: CheckedPotential,
    generator: torch.Generator,
) -> Columns:
    """At least ``wanted`` rows of points, log densities and works."""
    rows = [columns]
    missing = wanted - len(columns[0])
    for _ in range(0, missing, BATCH):
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(BATCH, generator)
        rows.append((x, log_q, density_work(x, log_q, u)))
    return tuple(torch.cat(column) for column in zip(*rows, strict=True))


def _affordable(u: CheckedPotential, limit: int) -> int:
    """Samples that may still be drawn, in whole batches; InputError if not even one."""
    left = (limit - u.n_evaluations) // BATCH * BATCH
    if left < BATCH:
        raise InputError("max_evaluations", f"at least {u.n_evaluations + BATCH}", limit)
    return left


def _exhausted(u: CheckedPotential, more: int, settings: Settings) -> bool:
    limit = settings.max_evaluations
    return limit is not None and u.n_evaluations + more > limit
