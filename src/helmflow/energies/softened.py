"""Energies without the steep core of pairs, for training only."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.neighbours import all_images, nearest_images
from helmflow.energies.stillinger_weber import StillingerWeber
from helmflow.errors import InputError
from helmflow.kernels.pairs import PairList, select_pairs
from helmflow.shapes import Particles, Values

CLOSEST = 0.01
"""Distances below this, in units of sigma, count as this."""

LINEAR_BELOW = {LennardJones: 0.8, StillingerWeber: 1.2 / 2.3925}
"""Where the published training energies continue the pair potential linearly, in sigma."""


@final
class SoftenedCore:
    """Value and gradient of a crystal's energy whose pair potential is linear at short distance.

        phi(r) -> phi(r_0) + phi'(r_0) (max(r, r_c) - r_0)   for r < r_0

    with r_0 = 0.8 sigma for Lennard-Jones and 0.502 sigma (1.2 angstrom in water) for the two-body
    part of Stillinger-Weber, r_c = 0.01 sigma; three-body terms stay. Equal to the energy as long
    as no pair is closer than r_0. It keeps gradients of a flow that is not yet good finite;
    **never evaluate with it**, a free energy belongs to the true potential. Raises ``InputError``
    for other potentials. Source: the training energies of doi:10.1088/2632-2153/ac6b16.
    """

    def __init__(self, energy: Energy) -> None:
        if type(energy) not in LINEAR_BELOW or not isinstance(
            energy, LennardJones | StillingerWeber
        ):
            raise InputError(
                "potential.kind", "lennard_jones or stillinger_weber", type(energy).__name__
            )
        self.energy = energy
        self.start = LINEAR_BELOW[type(energy)] * energy.sigma
        self.closest = CLOSEST * energy.sigma
        at = torch.tensor(self.start, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(self._pair(at), at)
        self._value, self._slope = self._pair(at).item(), slope.item()
        apart = energy.cell.minimum_image(energy.reference[:, None] - energy.reference)
        nearest = apart.norm(dim=2).fill_diagonal_(torch.inf).min().item()
        self._safe = 0.5 * (nearest - self.start)

    def displaced(self, u: Particles) -> tuple[Values, Particles]:
        """Energies (batch,) and gradients (batch, n, 3) at ``reference + u``, without a graph."""
        u = u.detach()
        value, gradient = self.energy.displaced_with_gradient(u)
        with torch.enable_grad():
            for b in self._close(u):
                value[b], gradient[b] = self._softened(u[b], value[b], gradient[b])
        return value, gradient

    def _close(self, u: Particles) -> list[int]:
        """Rows with two particles closer than the start of the line, or nearly so."""
        farthest = u.norm(dim=2).amax(1)
        rows = (farthest >= self._safe).nonzero().flatten()
        if len(rows) == 0:
            return []
        beyond_list = farthest[rows] > self.energy.covered
        reach = self.start + 2.0 * farthest[rows].max().item()
        first, second, d = _ends(select_pairs(self.energy.pairs, reach))
        d = d + u[rows][:, second] - u[rows][:, first]
        if self.energy.nearest:
            d = self.energy.cell.minimum_image(d)
        close = (d.square().sum(2) < self.start**2).any(1)
        return rows[close | beyond_list].tolist()

    def _softened(self, u: Tensor, value: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Energy and gradient of one configuration (n, 3), given the true ones."""
        # The core of Lennard-Jones is so steep that a true sum cannot be corrected afterwards.
        from_scratch = isinstance(self.energy, LennardJones)
        leaf = u.detach().clone().requires_grad_()
        r = self._distances(leaf, self.energy.range if from_scratch else self.start)
        extra = self._soft(r).sum()
        if not from_scratch:
            extra = extra - self._pair(r).sum()
            (slope,) = torch.autograd.grad(extra, leaf)
            return value + extra.detach(), gradient + slope
        (slope,) = torch.autograd.grad(extra, leaf)
        return extra.detach(), slope

    def _soft(self, r: Tensor) -> Tensor:
        line = self._value + self._slope * (r.clamp_min(self.closest) - self.start)
        return torch.where(r < self.start, line, self._pair(r.clamp_min(self.start)))

    def _pair(self, r: Tensor) -> Tensor:
        return self.energy.pair_energy(r) - self.energy.offset

    def _distances(self, u: Tensor, cutoff: float) -> Tensor:
        """Distances (pairs,) below the cutoff, differentiable in u (n, 3)."""
        positions = self.energy.reference + u.detach()
        if self.energy.nearest:
            pairs = nearest_images(positions)
        else:
            pairs = all_images(positions, self.energy.cell, cutoff)
        first, second, d = _ends(pairs)
        if self.energy.nearest:
            d = self.energy.cell.minimum_image(d)
        moved = u[second] - u[first]
        r2 = (d + (moved - moved.detach())).square().sum(1)
        # sqrt has no slope at 0, and the soft potential none below the closest distance.
        return r2[r2 < cutoff**2].clamp_min((0.5 * self.closest) ** 2).sqrt()


def _ends(pairs: PairList) -> tuple[Tensor, Tensor, Tensor]:
    """First and second particle (pairs,) and vector (pairs, 3) of every pair."""
    first = np.repeat(np.arange(len(pairs.offsets) - 1), np.diff(pairs.offsets))
    second = torch.from_numpy(pairs.index.astype(np.int64))
    return torch.from_numpy(first), second, torch.from_numpy(pairs.vectors).view(-1, 3)
