"""Works through a map, on samples that it was not fitted to."""

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


def through_map(
    bijector: Bijector, a: End, b: End, u_a: ReducedPotential, u_b: ReducedPotential
) -> Mapped:
    """A finished map, on all samples."""
    works = usable(_carry(a, u_b, bijector), _carry(b, u_a, Inverse(bijector)))
    return Mapped(works, Works(a.work, b.work), (bijector,), name_of(bijector))


def through_fit(
    fit: MapFit,
    a: End,
    b: End,
    u_a: ReducedPotential,
    u_b: ReducedPotential,
    folds: int,
    generator: Generator,
) -> Mapped:
    """A map fitted to the first half and used on the second, and for two folds vice versa.

    Halves are contiguous in time, so that correlated neighbours are on the same side. The works
    of both folds obey one fluctuation theorem, hence may be pooled.
    """
    found, fitted, bijectors = [], [], []
    for start in (0.0, 0.5)[-folds:]:
        bijector = fit_other_half(fit, start, a.x, b.x, u_a, u_b, generator)
        inverse = Inverse(bijector)
        here_a, here_b = a.part(start, start + 0.5), b.part(start, start + 0.5)
        found.append((_carry(here_a, u_b, bijector), _carry(here_b, u_a, inverse), here_a, here_b))
        other_a, other_b = a.part(0.5 - start, 1.0 - start), b.part(0.5 - start, 1.0 - start)
        fitted.append((_carry(other_a, u_b, bijector), _carry(other_b, u_a, inverse)))
        bijectors.append(bijector)
    forward, reverse = (np.concatenate([part[k] for part in found]) for k in (0, 1))
    same = (np.concatenate([part[k].work for part in found]) for k in (2, 3))
    return Mapped(
        works=usable(forward, reverse),
        same=Works(*same),
        bijectors=tuple(bijectors),
        name=fit.name,
        fitted=Works(*(np.concatenate([part[k] for part in fitted]) for k in (0, 1))),
    )


def fit_other_half(
    fit: MapFit,
    start: float,
    x_a: Configs,
    x_b: Configs,
    u_a: ReducedPotential,
    u_b: ReducedPotential,
    generator: Generator,
) -> Bijector:
    """The map for the half of each series that begins at ``start``, fitted to the other half."""
    low, high = 0.5 - start, 1.0 - start
    cut = high - HELD * (high - low)
    (fit_a, held_a), (fit_b, held_b) = (
        (_between(x, low, cut), _between(x, cut, high)) for x in (x_a, x_b)
    )
    return fit.fit(TwoStates(u_a, u_b, fit_a, fit_b, held_a, held_b), generator)


def _between(x: Configs, start: float, stop: float) -> Configs:
    return x[round(start * len(x)) : round(stop * len(x))]


def _carry(end: End, u_to: ReducedPotential, bijector: Bijector) -> np.ndarray:
    parts = []
    with torch.no_grad():
        for k in range(0, len(end.x), BATCH):
            own = end.own[k : k + BATCH]
            known = lambda _, own=own: own  # noqa: E731 - its energies are known already
            parts.append(work(end.x[k : k + BATCH], known, u_to, bijector))
    # A map that leaves the numbers (an overflow) has made an impossible configuration.
    return torch.nan_to_num(torch.cat(parts), nan=torch.inf, posinf=torch.inf).numpy()


def name_of(bijector: Bijector | MapFit) -> str:
    """What to call a map in a table."""
    return getattr(bijector, "name", type(bijector).__name__.lower())
