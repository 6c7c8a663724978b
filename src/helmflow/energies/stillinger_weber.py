"""The Stillinger-Weber crystal: silicon, and water as the monatomic model mW."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from helmflow.energies.listed import ListedEnergy
from helmflow.shapes import Values

# Where the tail exp(sigma / (r - a sigma)) is cut: exp(-50) = 2e-22.
_TAIL = 0.02


class StillingerWeber(ListedEnergy):
    """Stillinger-Weber potential with exponents p = 4, q = 0.

        U = sum_{i<j} A eps [B (sigma/r)^4 - 1] exp[sigma / (r - a sigma)]
          + sum_i sum_{j<k} lambda eps (cos theta_jik - cos theta_0)^2
            exp[gamma sigma / (r_ij - a sigma)] exp[gamma sigma / (r_ik - a sigma)]

    for distances below ``a sigma``.

    Args:
        reference: sites (n, 3).
        cell_matrix: periodic cell (3, 3), rows are its vectors.
        epsilon, sigma: energy and length scale, in the units of the system.
        A, B, a, lambda_, gamma, cos_theta0: numbers of the potential.
        images: which periodic images count, see ``ListedEnergy``.
        skin: how much further than the range neighbours are listed; sigma by default.

    Raises:
        InputError: see ``ListedEnergy``; or a parameter is not positive.

    Sources: F. H. Stillinger, T. A. Weber, Phys. Rev. B 31, 5262 (1985),
    doi:10.1103/PhysRevB.31.5262; V. Molinero, E. B. Moore, J. Phys. Chem. B 113, 4008 (2009),
    doi:10.1021/jp805227c.
    """

    epsilon: float
    sigma: float
    A: float
    B: float
    a: float
    lambda_: float
    gamma: float
    cos_theta0: float

    def check_parameters(self) -> None:
        """Raise ``InputError`` where a scale is not positive."""
        self._require_positive("epsilon", "sigma", "a", "gamma")

    @property
    def range(self) -> float:
        """Where the tails end: both exponentials are below 2e-22 from here to a sigma."""
        return (self.a - _TAIL * min(1.0, self.gamma)) * self.sigma

    @property
    def usual_skin(self) -> float:
        """One sigma."""
        return self.sigma

    @property
    def closest(self) -> float:
        """Three tenths of a sigma."""
        return 0.3 * self.sigma

    @property
    def continuous_forces(self) -> bool:
        """Forces fade out at the cutoff, but jump where nearest images change places."""
        return not self.nearest

    def _kernel(self, name: Literal["energies", "traces"]) -> tuple[Callable[..., None], tuple]:
        if name == "energies":
            from helmflow.kernels import stillinger_weber as kernels
        else:
            from helmflow.kernels import stillinger_weber_trace as kernels
        from helmflow.kernels.stillinger_weber import Parameters

        numbers = {name: float(getattr(self, name)) for name in Parameters._fields[:-1]}
        return getattr(kernels, name), Parameters(**numbers, range_=self.range)

    def pair_energy(self, r: Tensor) -> Tensor:
        """The two-body part of distances of any shape below a sigma."""
        y = self.sigma / (r - self.a * self.sigma)
        return self.A * self.epsilon * (self.B * (self.sigma / r) ** 4 - 1) * y.exp()

    def _from_vectors(self, d: Tensor, start: Tensor, end: Tensor) -> Values:
        r2 = d.square().sum(-1)
        inside = r2 < self.range**2
        # Replaced before roots and divisions, so that derivatives outside are zero, not NaN.
        r = torch.where(inside, r2, (self.range / 2) ** 2).sqrt()
        two_body = torch.where(inside, self.pair_energy(r), 0.0).sum(-1)

        y = self.sigma / (r - self.a * self.sigma)
        g = torch.where(inside, (self.gamma * y).exp(), 0.0).unsqueeze(-1)
        n = d / r.unsqueeze(-1)
        p = g * n
        q = (p.unsqueeze(-1) * n.unsqueeze(-2)).flatten(-2)
        # Moments of the neighbours of every atom: S, P (3), Q (9); see the kernel.
        moments = d.new_zeros(len(d), self.n_particles, 13)
        moments = moments.index_add(1, start, torch.cat([g, p, q], -1))
        moments = moments.index_add(1, end, torch.cat([g, -p, q], -1))
        s, p, q = moments.split([1, 3, 9], -1)
        c = self.cos_theta0
        three_body = q.square().sum((1, 2)) - 2 * c * p.square().sum((1, 2))
        three_body = three_body + (c * s).square().sum((1, 2))
        three_body = three_body - 2 * (1 - c) ** 2 * g.square().sum((1, 2))
        return two_body + 0.5 * self.lambda_ * self.epsilon * three_body
