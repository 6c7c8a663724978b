"""A repulsive sphere that grows in a Lennard-Jones solvent."""

import numpy as np
import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.energies.bridge import differentiable_once
from helmflow.errors import InputError
from helmflow.shapes import Particles, Values


class GrowingSphere(Energy):
    """Lennard-Jones particles around a fixed repulsive sphere of radius R at the origin.

        U = sum_{i<j} [u(r_ij) - u(r_c)]_{r_ij < r_c} + sum_i w(|x_i|)
        u(r) = 4 [r^-12 - r^-6],   w(r) = 4 [(R/r)^12 - (R/r)^6] + 1 where r < 2^(1/6) R

    in units of the solvent's epsilon and sigma, in a periodic cube; solvent pairs at their nearest
    image with r_c = box/2 by default, the sphere with all of its images. Differentiable once.
    Raises ``InputError`` for a cutoff beyond half the box or parameters that are not positive.

    Source: C. Jarzynski, doi:10.1103/PhysRevE.65.046122.
    """

    def __init__(
        self, n_particles: int, *, box: float, radius: float, cutoff: float | None = None
    ) -> None:
        super().__init__()
        cutoff = 0.5 * box if cutoff is None else cutoff
        for name, value in (("box", box), ("radius", radius), ("n_particles", n_particles)):
            if not value > 0:
                raise InputError(f"potential.{name}", "a positive number", value)
        if not 0.0 < cutoff <= 0.5 * box:
            raise InputError("potential.cutoff", f"at most half the box, {0.5 * box}", cutoff)
        if 2.0 ** (1.0 / 6.0) * radius > 0.75 * box:
            raise InputError("potential.radius", f"at most {0.668 * box:.4g}", radius)
        self.n_particles, self.box, self.radius = n_particles, float(box), float(radius)
        self.cutoff = float(cutoff)
        self.shift = 4.0 * (cutoff**-12 - cutoff**-6)

    def at(self, radius: float) -> "GrowingSphere":
        """The same solvent around a sphere of another radius."""
        return GrowingSphere(self.n_particles, box=self.box, radius=radius, cutoff=self.cutoff)

    def forward(self, x: Particles) -> Values:
        """Energies (batch,) in epsilon of positions (batch, n, 3) in sigma."""
        if torch.is_grad_enabled() and x.requires_grad:
            return differentiable_once(x, self.energy_and_gradient)
        return self.evaluate(x, self.radii(x), gradient=False)[0]

    def energy_and_gradient(self, x: Particles) -> tuple[Values, Particles]:
        """Energies (batch,) and gradients +dU/dx (batch, n, 3), without a graph."""
        energy, _, gradient = self.evaluate(x, self.radii(x))
        return energy, gradient

    def radii(self, x: Particles) -> Tensor:
        """This radius, once per configuration."""
        return torch.full((len(x),), self.radius, dtype=torch.float64)

    def evaluate(
        self, x: Particles, radii: Tensor, *, gradient: bool = True
    ) -> tuple[Values, Values, Particles]:
        """Energies, their derivatives dU/dR, and gradients, with a radius for every row.

        Infinite where particles coincide; the gradient is empty when it is not asked for.
        """
        from helmflow.kernels.solvation import Growth, Solvent, energies

        if x.shape[1:] != (self.n_particles, 3):
            raise InputError("x", f"shape (batch, {self.n_particles}, 3)", tuple(x.shape))
        rows = np.ascontiguousarray(x.detach().cpu().numpy(), dtype=np.float64)
        rows = rows.reshape(len(rows), 3 * self.n_particles)
        out = Growth(
            np.empty(len(rows)),
            np.empty(len(rows)),
            np.empty((len(rows), rows.shape[1] if gradient else 0)),
        )
        energies(rows, radii.numpy(), Solvent(self.box, self.cutoff, self.shift), out)
        energy = np.where(np.isfinite(out.energy), out.energy, np.inf)
        gradients = torch.from_numpy(out.gradient).unflatten(1, (-1, 3))
        return torch.from_numpy(energy), torch.from_numpy(out.slope), gradients
