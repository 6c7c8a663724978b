"""The Lennard-Jones crystal."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from helmflow.energies.listed import Images, ListedEnergy
from helmflow.errors import InputError
from helmflow.shapes import Values


class LennardJones(ListedEnergy):
    """Truncated Lennard-Jones pair potential.

        U = sum_{i<j} [u(r_ij) - u(r_c)],   u(r) = 4 eps [(sigma/r)^12 - (sigma/r)^6],   r < r_c

    Args:
        reference: sites (n, 3).
        cell_matrix: periodic cell (3, 3), rows are its vectors.
        epsilon, sigma: well depth and diameter, in the units of the system.
        cutoff: r_c, in the unit of ``sigma``. No tail correction.
        shift: subtract u(r_c), which makes the energy continuous.
        images: which periodic images count, see ``ListedEnergy``.
        skin: how much further than the cutoff neighbours are listed; 0.9 sigma by default.

    Raises:
        InputError: see ``ListedEnergy``; or a parameter is not positive.

    Source: J. E. Jones, Proc. R. Soc. A 106, 463 (1924), doi:10.1098/rspa.1924.0082.
    """

    def __init__(
        self,
        reference: Tensor,
        cell_matrix: Tensor,
        *,
        epsilon: float,
        sigma: float,
        cutoff: float,
        shift: bool = True,
        images: Images | None = None,
        skin: float | None = None,
    ) -> None:
        for name, value in (("epsilon", epsilon), ("sigma", sigma), ("cutoff", cutoff)):
            if not value > 0:
                raise InputError(f"potential.{name}", "a positive number", value)
        super().__init__(
            reference,
            cell_matrix,
            range_=cutoff,
            skin=0.9 * sigma if skin is None else skin,
            closest=0.3 * sigma,
            images=images,
        )
        self.epsilon, self.sigma, self.cutoff = float(epsilon), float(sigma), float(cutoff)
        s6 = (sigma / cutoff) ** 6
        self.shift = 4 * epsilon * s6 * (s6 - 1) if shift else 0.0

    @property
    def continuous(self) -> bool:
        """Without the shift the energy jumps where pairs cross the cutoff."""
        return self.shift != 0.0 or self.cutoff == self.sigma

    def _kernel(self, name: Literal["energies", "traces"]) -> tuple[Callable[..., None], tuple]:
        from helmflow.kernels import lennard_jones as kernels

        parameters = kernels.Parameters(self.epsilon, self.sigma, self.cutoff, self.shift)
        return getattr(kernels, name), parameters

    def _from_vectors(self, d: Tensor, start: Tensor, end: Tensor) -> Values:
        r2 = d.square().sum(-1)
        inside = r2 < self.cutoff**2
        # Replaced before it is divided by, so that derivatives outside are zero, not NaN.
        s6 = (self.sigma**2 / torch.where(inside, r2, 1.0)) ** 3
        pair = 4 * self.epsilon * s6 * (s6 - 1) - self.shift
        return torch.where(inside, pair, 0.0).sum(-1)
