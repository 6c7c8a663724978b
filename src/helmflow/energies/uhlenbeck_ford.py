"""The Uhlenbeck-Ford potential, the reference fluid of free energies."""

from torch import Tensor

from helmflow.energies.pair_potential import PairPotential
from helmflow.kernels.elementary import Vector, Vectors, exp, log


class UhlenbeckFord(PairPotential, length="sigma"):
    """Uhlenbeck-Ford potential, purely repulsive and soft, cut as `PairPotential` says.

        u(r) = -p eps ln(1 - exp(-(r/sigma)^2))

    ``p`` has no unit; p eps = p k_B T in the literature of the model.

    Source: R. Paula Leite, R. Freitas, R. Azevedo, M. de Koning, J. Chem. Phys. 145, 194101
    (2016), doi:10.1063/1.4967775.
    """

    epsilon: float
    sigma: float
    p: float

    @staticmethod
    def pair(r2: Vector, epsilon: float, sigma: float, p: float) -> Vectors:
        x = r2 / (sigma * sigma)
        e = exp(-x)
        left = 1.0 - e
        # u'/r, with e / (1 - e) the derivative of the logarithm by x.
        slope = (-2.0 * p * epsilon / (sigma * sigma)) * (e / left)
        return (-p * epsilon) * log(left), slope, slope * (1.0 - 2.0 * x / left)

    def pair_energy(self, r: Tensor) -> Tensor:
        x = (r / self.sigma).square()
        return -self.p * self.epsilon * (-(-x).expm1()).log()
