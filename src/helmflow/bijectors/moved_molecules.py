"""Maps of the molecules around a solute: each moves as a whole, as seen from the solute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, TwoWay
from helmflow.errors import InputError
from helmflow.shapes import Particles, Values


@dataclass(frozen=True)
class Surroundings:
    """Which particles are a solute, which are the molecules around it, and their periodic cell.

    ``molecules`` lists the particles of each molecule that may move; ``solute`` those whose mean
    position is the origin (none: a point fixed in space, the origin of the coordinates). Particles
    in neither stay where they are. ``cell`` (3, 3) has the box vectors as rows. Raises
    ``InputError`` for a particle that is named twice or does not exist.
    """

    n_particles: int
    molecules: Sequence[Sequence[int]]
    solute: Sequence[int]
    cell: Tensor

    def __post_init__(self) -> None:
        named = [i for m in self.molecules for i in m] + list(self.solute)
        if len(set(named)) != len(named) or not set(named) <= set(range(self.n_particles)):
            expected = f"each of {self.n_particles} particles once, or not at all"
            raise InputError("molecules", expected, f"{len(named)} entries")
        if not self.molecules or any(len(m) == 0 for m in self.molecules):
            raise InputError("molecules", "at least one, and none of them empty", self.molecules)
        if self.cell.shape != (3, 3):
            raise InputError("cell", "three box vectors (3, 3)", tuple(self.cell.shape))


@final
class MovedMolecules(TwoWay):
    """Molecules carried by a map g of their centres, as seen from the solute.

        c_m = mean of the particles of molecule m,   d_m = (c_m - c_0) / unit
        y_i = x_i + unit (g(d) - d)_m(i),            log|det| that of g

    g maps (batch, molecules, 3) and knows the cell, divided by ``unit``. Molecules keep their
    shape and are put together across the cell's faces before their centre is taken; the solute
    stays. x is (batch, particles, 3).
    """

    def __init__(self, centres: Bijector, around: Surroundings, *, unit: float = 1.0) -> None:
        super().__init__()
        self.centres = centres
        self.around = around
        self.unit = unit
        owner = torch.full((around.n_particles,), len(around.molecules), dtype=torch.long)
        leader = torch.arange(around.n_particles)
        for m, particles in enumerate(around.molecules):
            owner[list(particles)] = m
            leader[list(particles)] = particles[0]
        self.register_buffer("owner", owner)
        self.register_buffer("leader", leader)
        self.register_buffer("size", torch.bincount(owner)[: len(around.molecules), None])
        self.register_buffer("cell", around.cell.to(torch.float64))
        self.register_buffer("to_fractions", torch.linalg.inv(self.cell))

    owner: Tensor
    leader: Tensor
    size: Tensor
    cell: Tensor
    to_fractions: Tensor

    def directed(self, x: Particles, sign: int) -> tuple[Particles, Values]:
        d = self.seen(x)
        moved, log_det = self.centres.directed(d, sign)
        shift = self.nearest(self.unit * (moved - d))
        still = shift.new_zeros(len(x), 1, 3)
        return x + torch.cat([shift, still], 1)[:, self.owner], log_det

    def seen(self, x: Particles) -> Particles:
        """Centres d (batch, molecules, 3) as the map sees them, in its unit."""
        whole = x[:, self.leader] + self.nearest(x - x[:, self.leader])
        sums = x.new_zeros(len(x), len(self.size) + 1, 3).index_add_(1, self.owner, whole)
        centres = sums[:, :-1] / self.size
        solute = list(self.around.solute)
        if solute:
            first = x[:, solute[:1]]
            centres = centres - first - self.nearest(x[:, solute] - first).mean(1, keepdim=True)
        return centres / self.unit

    def pulled(self, gradient: Particles) -> Particles:
        """The derivative by d (batch, molecules, 3) of what has ``gradient`` by x."""
        sums = gradient.new_zeros(len(gradient), len(self.size) + 1, 3)
        return self.unit * sums.index_add_(1, self.owner, gradient)[:, :-1]

    def nearest(self, d: Tensor) -> Tensor:
        """Vectors d (..., 3) in the unit of x, reduced by the box vectors that they exceed."""
        return d - (d @ self.to_fractions).detach().round() @ self.cell
