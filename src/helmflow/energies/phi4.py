"""Scalar phi^4 theory on a periodic square lattice."""

import torch

from helmflow.energies.base import Energy
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


class Phi4(Energy):
    """Lattice action of a real scalar field phi (batch, L1, L2) with a quartic self-interaction.

    S(phi) = sum_n [ sum_mu (phi_{n+mu} - phi_n)^2 + m^2 phi_n^2 + lambda phi_n^4 ]

    No factor 1/2 anywhere: the normalisation of Albergo, Kanwar, Shanahan
    (doi:10.1103/PhysRevD.100.034515). ``mass_squared`` = m^2 may be negative, ``coupling`` =
    lambda >= 0; with lambda = 0 only m^2 > 0 has a finite partition function. Raises
    ``InputError`` for other values.
    """

    isotropic = True

    def __init__(self, shape: tuple[int, int], *, mass_squared: float, coupling: float) -> None:
        super().__init__()
        if coupling < 0:
            raise InputError("potential.coupling", "a number >= 0", coupling)
        if coupling == 0 and mass_squared <= 0:
            raise InputError(
                "potential.mass_squared", "a number > 0 without coupling", mass_squared
            )
        self.shape = (shape[0], shape[1])
        self.mass_squared = mass_squared
        self.coupling = coupling

    def forward(self, x: Configs) -> Values:
        """The action of each field, differentiable to any order."""
        self._check_shape(x)
        square = x.square()
        local = (4.0 + self.mass_squared) * square + self.coupling * square.square()
        return (local - x * self._sum_of_neighbours(x)).sum(dim=(-2, -1))

    def energy_and_gradient(self, x: Configs) -> tuple[Values, Configs]:
        """The action of each field and dS/dphi (batch, L1, L2), without a graph.

        dS/dphi_n = 2 (4 + m^2) phi_n + 4 lambda phi_n^3 - 2 sum of the four neighbours.
        """
        self._check_shape(x)
        x = x.detach()
        square = x.square()
        quadratic = 4.0 + self.mass_squared
        neighbours = self._sum_of_neighbours(x)
        action = (x * ((quadratic + self.coupling * square) * x - neighbours)).sum(dim=(-2, -1))
        gradient = 2.0 * ((quadratic + 2.0 * self.coupling * square) * x - neighbours)
        return action, gradient

    def _sum_of_neighbours(self, x: Configs) -> Configs:
        shifted = [x.roll(step, axis) for axis in (-2, -1) for step in (1, -1)]
        return sum(shifted, torch.tensor(0.0))

    def _check_shape(self, x: Configs) -> None:
        if x.ndim != 3 or x.shape[1:] != self.shape:
            expected = f"shape (batch, {self.shape[0]}, {self.shape[1]})"
            raise InputError("x", expected, tuple(x.shape))
