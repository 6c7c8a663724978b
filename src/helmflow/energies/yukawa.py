"""A scalar field coupled to two flavours of staggered fermions on a periodic lattice."""

from typing import final

import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.energies.phi4 import Phi4
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

FLAVOURS = 2


def staggered_derivative(shape: tuple[int, int]) -> Tensor:
    """Massless staggered operator K (V, V), antisymmetric, fermions antiperiodic along axis 0.

        K_xy = 1/2 sum_mu eta_mu(x) [delta_{x+mu, y} - delta_{x-mu, y}]

    with eta_0 = 1 and eta_1(x) = (-1)^x_0.

    Signs of the boundary are included. Raises InputError for odd extents.
    """
    if any(n % 2 or n < 2 for n in shape):
        raise InputError("field.shape", "even extents, for staggered fermions", list(shape))
    rows, columns = shape
    matrix = torch.zeros(rows, columns, rows, columns, dtype=torch.float64)
    for i in range(rows):
        for j in range(columns):
            sign = -1.0 if i == rows - 1 else 1.0
            matrix[i, j, (i + 1) % rows, j] += 0.5 * sign
            matrix[(i + 1) % rows, j, i, j] -= 0.5 * sign
            eta = 0.5 * (-1.0) ** i
            matrix[i, j, i, (j + 1) % columns] += eta
            matrix[i, (j + 1) % columns, i, j] -= eta
    return matrix.view(rows * columns, rows * columns)


@final
class Yukawa(Energy):
    """Action of a field phi (batch, L1, L2) after integrating two flavours of fermions out.

        S(phi) = S_phi4(phi) - 2 ln|det D|,   D = K + g diag(phi)

    S_phi4 as in ``Phi4``; K the massless staggered operator, antisymmetric, with antiperiodic
    fermions along axis 0 (`staggered_derivative`). Two flavours make the weight (det D)^2
    positive. S does not change under phi -> -phi, translations and reflections; the two
    directions differ. ``yukawa`` = g. The determinant is exact, at a cost of order V^3. Raises
    ``InputError`` for odd extents and as ``Phi4``.
    Source: M. S. Albergo et al., doi:10.1103/PhysRevD.104.114507.
    """

    isotropic = False

    def __init__(
        self, shape: tuple[int, int], *, mass_squared: float, coupling: float, yukawa: float
    ) -> None:
        super().__init__()
        self.scalar = Phi4(shape, mass_squared=mass_squared, coupling=coupling)
        self.shape = self.scalar.shape
        self.yukawa = yukawa
        self.register_buffer("derivative", staggered_derivative(self.shape), persistent=False)

    derivative: Tensor

    def operator(self, x: Configs) -> Tensor:
        """D (batch, V, V) of each field."""
        return self.derivative.to(x) + torch.diag_embed(self.yukawa * x.flatten(1))

    def forward(self, x: Configs) -> Values:
        """The effective action of each field, differentiable; +inf where det D = 0."""
        scalar = self.scalar(x)
        return scalar - FLAVOURS * torch.linalg.slogdet(self.operator(x)).logabsdet

    def energy_and_gradient(self, x: Configs) -> tuple[Values, Configs]:
        """The action and dS/dphi (batch, L1, L2); ``d ln|det D| / dphi_x = g (D^-1)_xx``."""
        x = x.detach()
        action, gradient = self.scalar.energy_and_gradient(x)
        operator = self.operator(x)
        log_det = torch.linalg.slogdet(operator).logabsdet
        propagator = torch.linalg.inv(operator).diagonal(dim1=1, dim2=2)
        slope = FLAVOURS * self.yukawa * propagator
        return action - FLAVOURS * log_det, gradient - slope.view_as(x)

    def condensate(self, x: Configs) -> Values:
        """``sum_x phi_x (D^-1)_xx / V`` (batch,), which does not change with the sign of phi."""
        propagator = torch.linalg.inv(self.operator(x)).diagonal(dim1=1, dim2=2)
        return (x.flatten(1) * propagator).mean(1)
