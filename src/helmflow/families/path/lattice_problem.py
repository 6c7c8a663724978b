"""Lattice fields: a real number at every site of a periodic square lattice."""

import math
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.energies.yukawa import Yukawa
from helmflow.families.path.problem import Problem
from helmflow.families.path.well import WHOLE, Well
from helmflow.fields.base import GradientField, TransportField
from helmflow.fields.local import LocalField
from helmflow.fields.potential import HarmonicField
from helmflow.generalised_work import require_gradients
from helmflow.manifolds.symmetry import lattice_symmetry
from helmflow.samplers.block_flips import random_blocks
from helmflow.shapes import Values
from helmflow.skeleton.budget import Budget
from helmflow.system import System

BLOCK_FLIPS = 8
"""Per trajectory, in a field whose symmetry is broken: its domain walls are too high to climb."""


class LatticeProblem(Problem):
    """A scalar field phi on V sites; u = phi - ``well.centre``, flattened to V.

    With a slope the target is one half of exp(-S) and counts twice; of an action that is not even,
    of its mean with its mirror image (`Well`).
    """

    noun = "field"
    n_translations = 0
    fit_iterations = 12

    def __init__(self, system: System, budget: Budget | None = None, well: Well = WHOLE) -> None:
        super().__init__(system, budget)
        self.well = well
        self.n_jumps = BLOCK_FLIPS if well.centre else 0
        # an action that was made even knows nothing of the average of the given one
        action = () if well.even else ("<S>",)
        self.observable_names = ("<phi^2>", "chi_2 = V <mean(phi)^2>", *action)
        self.shape = system.shape
        self.isotropic = bool(getattr(system.energy, "isotropic", False))
        self.symmetry = lattice_symmetry(self.shape, isotropic=self.isotropic)

    def target(self, u: Tensor) -> tuple[Values, Tensor]:
        """Action (batch,) and its gradient (batch, V)."""
        phi = self.well.field(u)
        action, gradient = self._even(phi) if self.well.even else self._action(phi)
        potential, slope = self.well.half(phi)
        return action + potential, gradient + slope

    def _action(self, phi: Tensor) -> tuple[Values, Tensor]:
        self.budget.spend(len(phi))
        fields = phi.view(-1, *self.shape)
        action, gradient = self.system.energy.energy_and_gradient(fields)
        require_gradients(gradient, fields, "potential")
        beta = self.system.beta
        return beta * action, beta * gradient.reshape(phi.shape)

    def _even(self, phi: Tensor) -> tuple[Values, Tensor]:
        """-ln of the mean of exp(-S) over a field and its mirror image."""
        action, gradient = self._action(torch.cat([phi, -phi]))
        both = -action.view(2, -1)
        share = both.softmax(0)[:, :, None]
        there, mirrored = gradient.view(2, *phi.shape)
        mean = math.log(2.0) - both.logsumexp(0)
        return mean, share[0] * there - share[1] * mirrored

    def jump(self, u: Tensor, generator: Generator) -> Tensor:
        """The field with the sign of one block reversed."""
        phi = self.well.field(u)
        flipped = random_blocks(len(u), self.shape, generator)
        return torch.where(flipped, -phi, phi) - self.well.centre

    def in_well(self, well: Well) -> Self:
        """The same field seen from ``well``."""
        return type(self)(self.system, self.budget, well)

    def starting_precision(self) -> Tensor:
        """Free field of unit mass: positive whatever the sign of m^2 (the fit then adapts it)."""
        k = [2.0 * np.sin(np.pi * np.arange(n) / n) for n in self.shape]
        spectrum = 2.0 * (1.0 + k[0][:, None] ** 2 + k[1][None, :] ** 2)
        row = np.fft.ifft2(spectrum).real.reshape(1, -1, 1)
        return torch.from_numpy(self.symmetry.expand({0: row}))

    def fields(self, base: Gaussian) -> Sequence[GradientField]:
        """Harmonic and on-site powers of the field."""
        powers = (2, 3, 4, 5, 6) if self.well.centre else (2, 4, 6)
        return [HarmonicField(base.dim), LocalField(base.covariance, powers=powers)]

    def transport_fields(
        self, base: Gaussian, grids: Sequence[Sequence[float]] = ()
    ) -> Sequence[TransportField]:
        """On-site powers of the field."""
        return [LocalField(base.covariance, powers=(2, 4, 6))]

    def fingerprint(self) -> Mapping[str, float]:
        """Action per site of two uniform fields; with fermions, whose action is not local, g."""
        if isinstance(self.system.energy, Yukawa):
            scalar, g = self.system.energy.scalar, self.system.energy.yukawa
            scalar_action = {"mass_squared": scalar.mass_squared, "coupling": scalar.coupling}
            return {"beta": self.system.beta, **scalar_action, "yukawa": g}
        # two amplitudes, so that the mass and the coupling can be told apart
        fields = torch.tensor([0.7, 1.5], dtype=torch.float64)[:, None, None]
        action = self.system.energy(fields.expand(2, *self.shape).contiguous())
        per_site = (self.system.beta * action / math.prod(self.shape)).tolist()
        return dict(zip(("action per site of phi = 0.7", "of phi = 1.5"), per_site, strict=True))

    @property
    def log_measure(self) -> float:
        """0: the measure is the product of d phi over sites."""
        return 0.0

    def observe(self, u: Tensor, potential: Values) -> Tensor:
        """<phi^2>, susceptibility and, if it is the given one, action: (2 or 3, batch)."""
        phi, volume = self.well.field(u), u.shape[1]
        action = [] if self.well.even else [potential - self.well.half(phi)[0]]
        return torch.stack([phi.square().mean(1), volume * phi.mean(1).square(), *action])
