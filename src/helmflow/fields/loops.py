"""Velocities of plaquette angles that change the weights of larger loops and of the charge.

With the flux B of an a x b rectangle, ``Phi = sum over rectangles of cos B``, both orientations;
its gradient in the plaquettes, minus the mean over the lattice, changes the weight exp(c Phi) of
such loops; where plaquettes are Gaussian it is the exact velocity. Matter couples to loops of all
sizes. A product ``cos(kP(n)) mean sin(P)``, minus its mean, sees the topological charge.
"""

from typing import final

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.fields.base import VelocityField
from helmflow.shapes import Configs, Values

RECTANGLES = ((1, 2), (2, 2), (1, 3), (2, 3), (3, 3), (3, 4), (4, 4))
HARMONICS = (1, 2, 3)
WAVES, MEANS = (1, 2, 3, 4), (1, 2, 3)
SMALLEST_EXTENT = 4


@final
class LoopField(VelocityField):
    """``size`` velocity fields of plaquettes (batch, L0, L1), with exact divergence.

    Raises InputError for extents below 4, where the largest rectangles would overlap themselves.
    """

    size = len(RECTANGLES) + len(WAVES) * len(MEANS)

    def stein(self, x: Configs, gradient: Configs, t: float) -> Tensor:
        velocity, divergence = self._fields(x)
        return divergence - torch.einsum("kbxy,bxy->kb", velocity, gradient)

    def velocity(self, x: Configs, t: float, weights: Tensor) -> tuple[Configs, Values]:
        velocity, divergence = self._fields(x)
        return torch.einsum("kbxy,k->bxy", velocity, weights), weights @ divergence

    def _fields(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities (size, batch, L0, L1) and divergences (size, batch)."""
        if min(angles.shape[1:]) < SMALLEST_EXTENT:
            raise InputError("field.shape", "extents of at least 4", list(angles.shape[1:]))
        volume = angles[0].numel()
        velocities, divergences = [], []
        for a, b in RECTANGLES:
            velocity, total = torch.zeros_like(angles), angles.new_zeros(len(angles))
            for shape in {(a, b), (b, a)}:
                flux = _boxes(angles, shape, -1)
                velocity = velocity - _boxes(torch.sin(flux), shape, 1)
                total = total + torch.cos(flux).sum((1, 2))
            velocities.append(velocity)
            divergences.append((a * b) * (a * b / volume - 1.0) * total)
        cosines = {k: torch.cos(k * angles) for k in {*WAVES, *MEANS}}
        sines = {k: torch.sin(k * angles) for k in {*WAVES, *MEANS}}
        for j in MEANS:
            mean, slope = sines[j].mean((1, 2)), j * cosines[j]
            for k in WAVES:
                velocities.append(cosines[k] * mean[:, None, None])
                diagonal = -k * sines[k].sum((1, 2)) * mean * (1.0 - 1.0 / volume)
                mixed = (cosines[k] * slope).mean((1, 2))
                divergences.append(diagonal + mixed - cosines[k].mean((1, 2)) * slope.mean((1, 2)))
        velocity = torch.stack(velocities)
        return velocity - velocity.mean((2, 3), keepdim=True), torch.stack(divergences)


def loop_sums(angles: Tensor) -> Tensor:
    """``sum cos kP``, k = 1, 2, 3, and Phi of every rectangle: (3 + rectangles, batch)."""
    rows = [torch.cos(k * angles).sum((1, 2)) for k in HARMONICS]
    for a, b in RECTANGLES:
        fluxes = [_boxes(angles, shape, -1) for shape in {(a, b), (b, a)}]
        rows.append(sum((torch.cos(flux).sum((1, 2)) for flux in fluxes), torch.tensor(0.0)))
    return torch.stack(rows)


def _boxes(x: Tensor, shape: tuple[int, int], direction: int) -> Tensor:
    """Sums over the rectangle that begins (-1) or ends (+1) at every site."""
    for axis, extent in enumerate(shape, start=1):
        x = torch.stack([x.roll(direction * k, axis) for k in range(extent)]).sum(0)
    return x
