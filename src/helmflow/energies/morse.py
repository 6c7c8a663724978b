"""The Morse potential."""

from torch import Tensor

from helmflow.energies.pair_potential import PairPotential
from helmflow.kernels.elementary import Vector, Vectors, exp, sqrt


class Morse(PairPotential, length="distance"):
    """Morse potential, cut as `PairPotential` says.

        u(r) = D [(1 - e)^2 - 1] = D e (e - 2),   e = exp(-a (r - r_0))

    ``depth`` D, in the unit of energy; ``stiffness`` a, in the inverse of the unit of length;
    ``distance`` r_0 of the minimum.

    Source: P. M. Morse, Phys. Rev. 34, 57 (1929), doi:10.1103/PhysRev.34.57.
    """

    depth: float
    stiffness: float
    distance: float

    @staticmethod
    def pair(r2: Vector, depth: float, stiffness: float, distance: float) -> Vectors:
        r = sqrt(r2)
        e = exp(stiffness * (distance - r))
        slope = (2.0 * depth * stiffness) * (e * (1.0 - e))
        bend = (2.0 * depth * stiffness * stiffness) * (e * (2.0 * e - 1.0))
        return depth * (e * (e - 2.0)), slope / r, bend

    def pair_energy(self, r: Tensor) -> Tensor:
        e = (self.stiffness * (self.distance - r)).exp()
        return self.depth * e * (e - 2.0)
