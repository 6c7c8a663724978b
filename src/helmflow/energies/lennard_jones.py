"""The Lennard-Jones potential."""

from typing import Any

from torch import Tensor

from helmflow.energies.pair_potential import PairPotential


class LennardJones(PairPotential, length="sigma"):
    """Lennard-Jones potential, cut as `PairPotential` says.

        u(r) = 4 eps [(sigma/r)^12 - (sigma/r)^6]

    ``epsilon``, ``sigma``: well depth and diameter, in the units of the system.

    Source: J. E. Jones, Proc. R. Soc. A 106, 463 (1924), doi:10.1098/rspa.1924.0082.
    """

    epsilon: float
    sigma: float

    @property
    def units(self) -> tuple[float, float]:
        return 4.0 * self.epsilon, -24.0 * self.epsilon / (self.sigma * self.sigma)

    @staticmethod
    def pair(r2: Any, epsilon: float, sigma: float) -> tuple[Any, Any, Any]:
        s2 = (sigma * sigma) / r2
        s6 = s2 * s2 * s2
        s12 = s6 * s6
        energy = s12 - s6
        return energy, s2 * (s12 + energy), s2 * (7.0 * s6 - 26.0 * s12)

    def pair_energy(self, r: Tensor) -> Tensor:
        s6 = (self.sigma / r) ** 6
        return 4.0 * self.epsilon * s6 * (s6 - 1.0)
