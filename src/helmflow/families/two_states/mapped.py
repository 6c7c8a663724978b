"""Works through a map, on samples that it was not fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator

from helmflow.bijectors.base import Bijector, Inverse
from helmflow.families.two_states.endpoints import End
from helmflow.families.two_states.two_sided import Works, usable
from helmflow.generalised_work import ReducedPotential, work
from helmflow.shapes import Configs
from helmflow.training.map_fit import MapFit, TwoStates

HELD = 0.2
"""Part of the fitting samples that is held out, for choosing a ridge or stopping."""

BATCH = 1024
"""Configurations mapped at a time."""


@dataclass(frozen=True)
class Mapped:
    """Works through one map, or through one per fold, and those of the same samples without.

    ``fitted`` are works of the half the map was fitted (and held) on; far below: overfitting.
    """

    works: Works
    same: Works
    bijectors: tuple[Bijector, ...]
    name: str
    fitted: Works | None = None


def through_map(bijector: Bijector, a: End, b: End) -> Mapped:
    """A finished map, on all samples."""
    times = (a.times, b.times)
    works = usable(*_both_ways(bijector, a, b), times)
    return Mapped(works, Works(a.work, b.work, times), (bijector,), name_of(bijector))


def through_fit(fit: MapFit, a: End, b: End, folds: int, generator: Generator) -> Mapped:
    """A map fitted to the first half and used on the second, and for two folds vice versa.

    Halves are contiguous in time, so that correlated neighbours are on the same side. The works
    of both folds obey one fluctuation theorem, hence may be pooled.
    """
    works, same, fitted, bijectors = [], [], [], []
    for start in (0.0, 0.5)[-folds:]:
        bijector = fit_other_half(fit, start, (a.x, b.x), (a.u, b.u), generator)
        here, other = ([end.part(s, s + 0.5) for end in (a, b)] for s in (start, 0.5 - start))
        works.append(_both_ways(bijector, *here))
        same.append([end.work for end in here])
        fitted.append(_both_ways(bijector, *other))
        bijectors.append(bijector)
    times = (a.times, b.times)
    return Mapped(
        works=usable(*_pooled(works), times=times),
        same=Works(*_pooled(same), times=times),
        bijectors=tuple(bijectors),
        name=fit.name,
        fitted=Works(*_pooled(fitted), times=times),
    )


def fit_other_half(
    fit: MapFit,
    start: float,
    x: tuple[Configs, Configs],
    u: tuple[ReducedPotential, ReducedPotential],
    generator: Generator,
) -> Bijector:
    """The map for the half of each series that begins at ``start``, fitted to the other half."""
    low, high = 0.5 - start, 1.0 - start
    cut = high - HELD * (high - low)
    learnt = (_between(side, low, cut) for side in x)
    held = (_between(side, cut, high) for side in x)
    return fit.fit(TwoStates(*u, *learnt, *held), generator)


def _both_ways(bijector: Bijector, a: End, b: End) -> tuple[np.ndarray, np.ndarray]:
    return _carry(a, b.u, bijector), _carry(b, a.u, Inverse(bijector))


def _pooled(folds: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """Both sides, each with its folds one after the other."""
    return [np.concatenate(side) for side in zip(*folds, strict=True)]


def _between(x: Configs, start: float, stop: float) -> Configs:
    return x[round(start * len(x)) : round(stop * len(x))]


def _carry(end: End, u_to: ReducedPotential, bijector: Bijector) -> np.ndarray:
    parts = []
    with torch.no_grad():
        for k in range(0, len(end.x), BATCH):
            u_own = end.u_own[k : k + BATCH]
            known = lambda _, u_own=u_own: u_own  # noqa: E731 - its energies are known already
            parts.append(work(end.x[k : k + BATCH], known, u_to, bijector))
    # A map that leaves the numbers (an overflow) has made an impossible configuration.
    return torch.nan_to_num(torch.cat(parts), nan=torch.inf, posinf=torch.inf).numpy()


def name_of(bijector: Bijector | MapFit) -> str:
    """What to call a map in a table."""
    return getattr(bijector, "name", type(bijector).__name__.lower())
