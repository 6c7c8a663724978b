"""Wilson's action of SU(2) and SU(3) links on a periodic square lattice, and of single links."""

import math

import torch
from torch import Tensor

from helmflow.energies.gauge import GaugeEnergy, require_coupling
from helmflow.errors import InputError
from helmflow.manifolds.links import require_lattice
from helmflow.manifolds.special_unitary import (
    hermitian_part,
    require_colours,
    require_special_unitary,
    trace,
)
from helmflow.shapes import Configs, Values


class SUWilson(GaugeEnergy):
    """``S = -(beta/N) sum_n Re tr P(n)`` of links (batch, 2, L0, L1, N, N) in SU(2) or SU(3).

    ``P(n) = U_0(n) U_1(n + 0) U_0(n + 1)^dagger U_1(n)^dagger``. Raises InputError for other
    groups, beta < 0, extents below 3, and matrices that are not special unitary.
    """

    shape: tuple[int, int]

    def __init__(self, shape: tuple[int, int], *, n_colours: int, beta: float) -> None:
        super().__init__()
        self.shape = require_lattice(shape)
        self.n_colours = require_colours(n_colours)
        self.beta = require_coupling("beta", beta)

    def cold_start(self, n: int) -> Configs:
        """All matrices one."""
        one = torch.eye(self.n_colours, dtype=torch.complex128)
        return one.expand(n, 2, *self.shape, -1, -1).clone()

    def forward(self, x: Configs) -> Values:
        """The action of each configuration, differentiable."""
        self._require(x)
        return -self.beta * mean_traces(x).sum((1, 2))

    def force(self, x: Configs) -> tuple[Values, Configs]:
        """The action, and Hermitian matrices F with ``dS = sum tr(X F)`` for ``dU = i X U``."""
        p = plaquettes(x)
        action = -self.beta * trace(p).real.sum((1, 2)) / self.n_colours
        return action, (self.beta / self.n_colours) * covariant_curl(x, hermitian_part(p))

    def _require(self, x: Configs) -> None:
        if x.ndim != 6 or tuple(x.shape[1:4]) != (2, *self.shape):
            n0, n1 = self.shape
            raise InputError("x", f"links (batch, 2, {n0}, {n1}, N, N)", tuple(x.shape))
        require_special_unitary(x, self.n_colours)


class SingleLink(GaugeEnergy):
    """``S(U) = -(beta/N) Re tr sum_k c_k U^k`` of one matrix (batch, N, N) in SU(2) or SU(3).

    Raises InputError for other groups, beta < 0, no or infinite coefficients c_1, c_2, ..., and
    matrices that are not special unitary.
    Source: D. Boyda et al., doi:10.1103/PhysRevD.103.074504.
    """

    shape: tuple[int, ...] = ()
    coefficients: tuple[float, ...]

    def __init__(self, n_colours: int, *, beta: float, coefficients: tuple[float, ...]) -> None:
        super().__init__()
        self.n_colours = require_colours(n_colours)
        self.beta = require_coupling("beta", beta)
        if not coefficients or not all(math.isfinite(c) for c in coefficients):
            raise InputError("potential.coefficients", "finite numbers", coefficients)
        self.coefficients = tuple(coefficients)

    def cold_start(self, n: int) -> Configs:
        """The matrix one."""
        return torch.eye(self.n_colours, dtype=torch.complex128).expand(n, -1, -1).clone()

    def forward(self, x: Configs) -> Values:
        """The action of each matrix."""
        require_special_unitary(x, self.n_colours)
        power, total = x, x.new_zeros(len(x)).real
        for c in self.coefficients:
            total = total + c * trace(power).real
            power = power @ x
        return -(self.beta / self.n_colours) * total

    def force(self, x: Configs) -> tuple[Values, Configs]:
        """The action, and Hermitian F (batch, N, N) with ``dS = tr(X F)`` for ``dU = i X U``."""
        power, slope = x, torch.zeros_like(x)
        for k, c in enumerate(self.coefficients, start=1):
            slope = slope + k * c * power
            power = power @ x
        return self(x), (self.beta / self.n_colours) * hermitian_part(slope)


def plaquettes(x: Configs) -> Tensor:
    """P(n) (batch, L0, L1, N, N) of links (batch, 2, L0, L1, N, N), based at n."""
    first, second = x.unbind(1)
    return first @ second.roll(-1, 1) @ (second @ first.roll(-1, 2)).mH


def mean_traces(x: Configs) -> Tensor:
    """``Re tr P(n)/N`` (batch, L0, L1)."""
    return trace(plaquettes(x)).real / x.shape[-1]


def covariant_curl(x: Configs, psi: Tensor) -> Configs:
    """Hermitian matrices on the links from matrices psi (batch, L0, L1, N, N) on the plaquettes.

    ``X_0(n) = psi(n) - psi(n - 1)`` and ``X_1(n) = psi(n - 0) - psi(n)``, with the neighbour's
    matrix carried to n along the link between.
    """
    first, second = x.unbind(1)
    from_below = (second.mH @ psi @ second).roll(1, 2)
    from_left = (first.mH @ psi @ first).roll(1, 1)
    return torch.stack((psi - from_below, from_left - psi), 1)
