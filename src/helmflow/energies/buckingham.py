"""The Buckingham potential without its unphysical core."""

from math import e, inf

from scipy.special import lambertw
from torch import Tensor

from helmflow.energies.pair_potential import PairPotential
from helmflow.kernels.elementary import Vector, Vectors, exp, select, sqrt


class Buckingham(PairPotential, length="minimum"):
    """u(r) = A exp(-r/rho) - C/r^6 beyond its maximum at r = ``core``, and +inf up to there.

    The formula falls without bound in the core. At +inf, with gradient zero, samplers refuse
    every move that ends there, and exp(-U) is zero. Cut as `PairPotential` says.
    Source: R. A. Buckingham, Proc. R. Soc. A 168, 264 (1938), doi:10.1098/rspa.1938.0173.
    """

    A: float
    rho: float
    C: float

    def check_parameters(self) -> None:
        super().check_parameters()
        q = (6.0 * self.C * self.rho / self.A) ** (1 / 7) / (7.0 * self.rho)
        self._require(q * e < 1.0, "C", "less than A (7 rho/e)^7 / (6 rho), to have a barrier")
        self.core, self.minimum = (-7.0 * self.rho * lambertw(-q, k).real for k in (0, -1))
        self.constants = *self.constants, self.core**2

    @staticmethod
    def pair(r2: Vector, a: float, rho: float, c: float, core2: float) -> Vectors:
        r2 = select(core2 < r2, r2, inf)
        r, s = sqrt(r2), c / (r2 * r2 * r2)
        d = a * exp(r / -rho)
        u = select(r2 < inf, d - s, inf)
        return u, 6.0 * s / r2 - d / (rho * r), d / (rho * rho) - 42.0 * s / r2

    def pair_energy(self, r: Tensor) -> Tensor:
        return self.A * (r / -self.rho).exp() - self.C / r**6
