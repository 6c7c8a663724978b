"""Lattice fields: a real number at every site of a periodic square lattice."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.energies.yukawa import Yukawa
from helmflow.families.path.problem import Problem
from helmflow.fields.base import GradientField, TransportField
from helmflow.fields.local import LocalField
from helmflow.fields.potential import HarmonicField
from helmflow.manifolds.symmetry import lattice_symmetry
from helmflow.shapes import Values
from helmflow.skeleton.budget import Budget
from helmflow.system import System


class LatticeProblem(Problem):
    """A scalar field phi on V sites; u = phi, flattened to V."""

    noun = "field"
    n_translations = 0
    observable_names = ("<phi^2>", "chi_2 = V <mean(phi)^2>", "<S>")
    fit_iterations = 12

    def __init__(self, system: System, budget: Budget | None = None) -> None:
        super().__init__(system, budget)
        self.shape = system.shape
        self.isotropic = bool(getattr(system.energy, "isotropic", False))
        self.symmetry = lattice_symmetry(self.shape, isotropic=self.isotropic)

    def target(self, u: Tensor) -> tuple[Values, Tensor]:
        """Action (batch,) and its gradient (batch, V)."""
        self.budget.spend(len(u))
        action, gradient = self.system.energy.energy_and_gradient(u.view(-1, *self.shape))
        return self.system.beta * action, self.system.beta * gradient.reshape(u.shape)

    def starting_precision(self) -> Tensor:
        """Free field of unit mass: positive whatever the sign of m^2 (the fit then adapts it)."""
        k = [2.0 * np.sin(np.pi * np.arange(n) / n) for n in self.shape]
        spectrum = 2.0 * (1.0 + k[0][:, None] ** 2 + k[1][None, :] ** 2)
        row = np.fft.ifft2(spectrum).real.reshape(1, -1, 1)
        return torch.from_numpy(self.symmetry.expand({0: row}))

    def fields(self, base: Gaussian) -> Sequence[GradientField]:
        """Harmonic and on-site powers of the field."""
        return [HarmonicField(base.dim), LocalField(base.covariance, powers=(2, 4, 6))]

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
        """<phi^2>, two-point susceptibility and action: (3, batch)."""
        volume = u.shape[1]
        return torch.stack([u.square().mean(1), volume * u.mean(1).square(), potential])
