"""Maps of molecules, fitted in bonds, angles and torsions."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import final

import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import Bijector, Identity
from helmflow.bijectors.conjugated import Part, conjugated
from helmflow.bijectors.elementwise import ShiftScale
from helmflow.bijectors.given_torsions import GivenTorsions, Places
from helmflow.bijectors.internal import InternalCoordinates, z_matrix
from helmflow.bijectors.splines import CircularSpline
from helmflow.training.force_gaussian import force_gaussian, force_map, gradients_in
from helmflow.training.map_fit import GaussianFit, MapFit, TwoStates, least_dissipation
from helmflow.training.map_training import Trained, train_map
from helmflow.training.plan import TrainingPlan

SOFT = 0.4
"""Circular standard deviation (radian) from which a torsion counts as soft."""


@final
class MoleculeFit(MapFit):
    """A map of one molecule: Gaussian in its stiff internal coordinates, then trained if asked.

    Bonds, angles, and those torsions that move less than 0.4 radian in both states are carried
    by `GaussianFit`, or, where both potentials have gradients and that does better on held-out
    samples, by the Gaussians that fit their forces, with means that follow the soft torsions;
    these stay, or are turned one by one to the other state's density. Position and orientation
    stay. With a ``plan`` couplings are
    trained on top: circular splines of every soft torsion given the others, shifts and scales of
    the stiff coordinates given the soft ones. ``bonds`` are pairs of atoms. A molecule that leaves
    the range of its coordinates on the way has work +inf.
    """

    def __init__(
        self,
        n_atoms: int,
        bonds: Sequence[tuple[int, int]],
        *,
        plan: TrainingPlan | None = None,
        two_sided: bool = True,
        hidden: Sequence[int] = (48, 48),
        n_bins: int = 12,
    ) -> None:
        self.entries = z_matrix(n_atoms, bonds)
        self.plan = plan
        self.two_sided = two_sided
        self.hidden = tuple(hidden)
        self.n_bins = n_bins
        self.name = "internal gaussian" if plan is None else "trained internal"
        self.trained: list[Trained] = []

    def fit(self, states: TwoStates, generator: Generator) -> Bijector:
        coordinates, stiff, soft = self._coordinates(states)
        inner = states.through(coordinates)
        parts = {k: getattr(inner, k)[:, stiff] for k in ("x_a", "x_b", "held_a", "held_b")}

        seen_inside = partial(conjugated, coordinates)

        def works(bijector: Bijector) -> tuple[Tensor, Tensor]:
            return states.works(seen_inside(Part(bijector, stiff)), held=True)

        best = Part(GaussianFit().best(replace(inner, **parts), works), stiff)
        by_forces = _map_by_forces(coordinates, states, stiff, soft)
        gaussian = least_dissipation(
            [Identity(), best, *by_forces],
            lambda f: states.works(seen_inside(f), held=True),
        )
        if self.plan is None:
            return seen_inside(gaussian)
        spread = parts["x_b"].std(0)
        made = conjugated(
            coordinates, gaussian, *self._couplings(coordinates, stiff, soft, spread, generator)
        )
        self.trained.append(
            train_map(made, states, self.plan, generator, two_sided=self.two_sided)
        )
        return made

    def _couplings(
        self,
        coordinates: InternalCoordinates,
        stiff: Tensor,
        soft: Tensor,
        spread: Tensor,
        generator: Generator,
    ) -> list[Bijector]:
        centres = coordinates.centres[soft - coordinates.torsions[0]]
        turns: list[Bijector] = []
        for k in range(len(soft)):
            one = torch.arange(len(soft)) == k
            turns.append(
                GivenTorsions(
                    Places.around(soft[one], centres[one]),
                    soft[~one],
                    CircularSpline(self.n_bins),
                    hidden=self.hidden,
                    generator=generator,
                )
            )
        lengths = Places(stiff, scale=spread)
        shifts = GivenTorsions(
            lengths, soft, ShiftScale(), hidden=self.hidden, generator=generator
        )
        return [*turns, shifts]

    def _coordinates(self, states: TwoStates) -> tuple[InternalCoordinates, Tensor, Tensor]:
        """Coordinates with centred torsions, and the places of the stiff and the soft ones."""
        raw = InternalCoordinates(self.entries)
        place = raw.torsions
        sides = [raw.forward(side)[0][:, place] for side in (states.x_a, states.x_b)]
        means = [torch.exp(1j * side).mean(0) for side in sides]
        centres = (means[0] + means[1]).angle()
        spread = torch.stack([(-2.0 * m.abs().clamp(1e-12, 1.0).log()).sqrt() for m in means])
        apart = torch.remainder(means[0].angle() - means[1].angle() + math.pi, 2 * math.pi)
        moves = (spread.max(0).values > SOFT) | ((apart - math.pi).abs() > SOFT)
        internal = set(raw.internal.tolist())
        soft = [i for i in place[moves].tolist() if i in internal]
        stiff = sorted(internal - set(soft))
        made = InternalCoordinates(self.entries, centres=centres)
        return made, torch.tensor(stiff), torch.tensor(soft, dtype=torch.long)


def _map_by_forces(
    coordinates: InternalCoordinates, states: TwoStates, stiff: Tensor, soft: Tensor
) -> list[Bijector]:
    """The map between the Gaussians that fit the forces of both states, if there is one."""
    gaussians = []
    for x, u in ((states.x_a, states.u_a), (states.x_b, states.u_b)):
        known = gradients_in(coordinates, x, u)
        fitted = None if known is None else force_gaussian(*known, stiff, soft)
        if fitted is None:
            return []
        gaussians.append(fitted)
    centres = coordinates.centres[soft - coordinates.torsions[0]]
    a, b = gaussians
    turned = [force_map(a, b, stiff, soft, centres)] if len(soft) else []
    return [force_map(a, b, stiff, soft), *turned]
