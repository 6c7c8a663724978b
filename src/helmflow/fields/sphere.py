"""Velocities of a solvent around a growing sphere."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.fields.base import VelocityField
from helmflow.shapes import Particles, Values

ONE_BODY_SHAPES, PAIR_SHAPES = 6, 10
PAIR_FIRST, PAIR_SPACING, PAIR_WIDTH = 0.85, 0.2, 0.22
PAIR_TAIL = 4.95
"""Widths from the last pair function to half the box, where it must have vanished."""


@final
class SphereField(VelocityField):
    """Velocities v_k of particles in a periodic cube around a sphere of radius R.

    One-body fields f(s) T(x_i) and pair fields A(s_i) g(r_ij) W on either particle, where s is the
    distance from the sphere's surface, T periodic vectors of the cube's symmetry and W the bond's
    direction, T at either end, or the bond's direction times the T along it. Divergences are
    exact. ``families`` (size,) numbers the fields that differ only in where their Gaussians
    stand, and so are alike in size.

    The lengths are in units of the solvent's sigma, in which its structure has always the same
    scale. The radius grows linearly from ``radii[0]`` at t = 0 to ``radii[1]`` at t = 1.
    """

    def __init__(self, box: float, radii: tuple[float, float]) -> None:
        from helmflow.kernels.gaussians import Grid
        from helmflow.kernels.periodic_vectors import DIRECTIONS
        from helmflow.kernels.solvation_basis import Basis, count_features

        self.radii = radii
        reach = 0.5 * box
        n_pair = int((reach - PAIR_FIRST - PAIR_TAIL * PAIR_WIDTH) / PAIR_SPACING) + 1
        if n_pair < 1:
            raise InputError("box", "room for pair functions, at least 3.9 sigma", box)
        self.basis = Basis(
            box=box,
            reach=reach,
            one_body=Grid(-0.45, 0.15, 0.165, 23),
            solute=Grid(-0.1, 0.35, 0.35, 6),
            pair=Grid(PAIR_FIRST, PAIR_SPACING, PAIR_WIDTH, n_pair),
        )
        self.size = count_features(self.basis)
        pairs = self.basis.solute.size * self.basis.pair.size
        self.families = np.concatenate(
            [
                np.tile(np.arange(ONE_BODY_SHAPES), self.basis.one_body.size),
                *(
                    ONE_BODY_SHAPES + q * PAIR_SHAPES + np.tile(np.arange(PAIR_SHAPES), pairs)
                    for q in range(DIRECTIONS)
                ),
            ]
        )

    def stein(self, x: Particles, gradient: Particles, t: float) -> Tensor:
        from helmflow.kernels import solvation_fields as kernels

        out, radii = np.empty((self.size, len(x))), np.full(len(x), self._radius(t))
        kernels.stein(_rows(x), _rows(gradient), radii, self.basis, out)
        return torch.from_numpy(out)

    def velocity(self, x: Particles, t: float, weights: Tensor) -> tuple[Particles, Values]:
        """sum_k weights_k v_k (batch, n, 3) and its divergence (batch,).

        Raises ``InputError`` when a gradient is asked for: there is none.
        """
        if torch.is_grad_enabled() and x.requires_grad:
            raise InputError("x", "positions without a gradient to keep", "requires_grad")
        from helmflow.kernels import solvation_fields as kernels

        rows = _rows(x)
        velocity, divergence = np.empty_like(rows), np.empty(len(rows))
        radius = self._radius(t)
        kernels.field(rows, weights.contiguous().numpy(), radius, self.basis, velocity, divergence)
        return torch.from_numpy(velocity).reshape(x.shape), torch.from_numpy(divergence)

    def _radius(self, t: float) -> float:
        return self.radii[0] + t * (self.radii[1] - self.radii[0])


def _rows(x: Particles) -> np.ndarray:
    return np.ascontiguousarray(x.detach().flatten(1).numpy(), dtype=np.float64)
