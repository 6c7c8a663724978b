"""The weights of a flow on lattices of other extents."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from helmflow.densities.base import Density
from helmflow.estimators.reweighting import kish_ess
from helmflow.generalised_work import ReducedPotential, density_work
from helmflow.skeleton.run import Run

Array = np.ndarray
Shape = tuple[int, int]
Resized = tuple[Density, ReducedPotential]
"""A flow, and the reduced potential that it is for, counted."""


@dataclass(frozen=True)
class Volumes:
    """Factors of both extents, samples on every lattice, and the most sites of one."""

    scales: tuple[float, ...]
    samples: int
    largest: int


def ess_against_volume(
    shape: tuple[int, ...], resized: Callable[[Shape], Resized | None], plan: Volumes, run: Run
) -> Mapping[str, Array]:
    """Rows (volume, ESS fraction) of the same weights on other extents, as an array of a report.

    Empty unless there are two; extents at which ``resized`` is None, or for which no energies
    are left, are passed over.
    """
    rows = []
    for scale in plan.scales if len(shape) == 2 else ():
        scaled = (int(scale * shape[0]), int(scale * shape[1]))
        if math.prod(scaled) > plan.largest or plan.samples > run.budget.left:
            continue
        other = resized(scaled)
        if other is None:
            continue
        flow, u = other
        with torch.no_grad():
            x, log_q = flow.sample_and_log_prob(plan.samples, run.stream("volume"))
            log_w = -density_work(x, log_q, u)
        rows.append((math.prod(scaled), kish_ess(log_w.numpy()) / plan.samples))
    return {"ess_against_volume": np.array(rows)} if len(rows) > 1 else {}
