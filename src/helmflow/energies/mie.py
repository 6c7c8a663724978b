"""The Mie potential: Lennard-Jones with any two exponents."""

from torch import Tensor

from helmflow.energies.pair_potential import PairPotential
from helmflow.kernels.elementary import Vector, Vectors, exp, log


class Mie(PairPotential, length="sigma"):
    """Mie potential with exponents n = ``repulsive`` > m = ``attractive``, cut as `PairPotential`.

        u(r) = C eps [(sigma/r)^n - (sigma/r)^m],   C = n/(n - m) (n/m)^(m/(n - m))

    Source: G. Mie, Ann. Phys. 316, 657 (1903), doi:10.1002/andp.19033160802.
    """

    epsilon: float
    sigma: float
    repulsive: float
    attractive: float

    def check_parameters(self) -> None:
        super().check_parameters()
        self._require(self.repulsive > self.attractive, "repulsive", "more than attractive")
        n, m = self.repulsive, self.attractive
        self.constants = self.epsilon * n / (n - m) * (n / m) ** (m / (n - m)), self.sigma, n, m

    @staticmethod
    def pair(r2: Vector, depth: float, sigma: float, n: float, m: float) -> Vectors:
        log_s = 0.5 * log((sigma * sigma) / r2)
        a, b = depth * exp(n * log_s), depth * exp(m * log_s)
        return a - b, (m * b - n * a) / r2, (n * (n + 1.0) * a - m * (m + 1.0) * b) / r2

    def pair_energy(self, r: Tensor) -> Tensor:
        depth, sigma, n, m = self.constants
        return depth * ((sigma / r) ** n - (sigma / r) ** m)
