"""Two-dimensional quantum electrodynamics with two flavours of Wilson fermions."""

import math

import torch
from torch import Tensor

from helmflow.energies.gauge import GaugeEnergy, U1Wilson, require_coupling
from helmflow.errors import InputError
from helmflow.manifolds.links import require_links
from helmflow.shapes import Configs, Values

GAMMA = (
    torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.complex128),
    torch.tensor([[0.0, -1j], [1j, 0.0]], dtype=torch.complex128),
)
"""Pauli matrices sigma_1 and sigma_2."""


class Schwinger(GaugeEnergy):
    """``S = -beta sum cos P - 2 ln|det D|`` of U(1) links (batch, 2, L0, L1), two flavours.

    ``D = 1 - kappa H``, ``(H psi)(n) = sum_mu [(1 - gamma_mu) U_mu(n) psi(n + mu) + (1 +
    gamma_mu) U_mu(n - mu)* psi(n - mu)]``, antiperiodic along the first axis. ``det D`` is real,
    of either sign; for an even lattice ``det D = det(1 - kappa^2 H_eo H_oe)``. Raises InputError
    for odd extents, beta < 0, and kappa outside [0, 1/2).
    Source: K. G. Wilson, doi:10.1007/978-1-4613-4208-3_6.
    """

    shape: tuple[int, int]
    hop: Tensor
    target: Tensor
    block: Tensor

    def __init__(self, shape: tuple[int, int], *, beta: float, kappa: float) -> None:
        super().__init__()
        self.gauge = U1Wilson(shape, beta=beta)
        self.shape = self.gauge.shape
        if any(extent % 2 for extent in shape):
            raise InputError("field.shape", "even extents", list(shape))
        self.beta = self.gauge.beta
        self.kappa = require_coupling("kappa", kappa, 0.5)
        for name, table in zip(("hop", "target", "block"), _hops(self.shape), strict=True):
            self.register_buffer(name, table, persistent=False)

    def cold_start(self, n: int) -> Configs:
        """All angles zero."""
        return self.gauge.cold_start(n)

    def forward(self, x: Configs) -> Values:
        """The action of each configuration, +inf where the determinant vanishes."""
        return self.gauge(x) - 2.0 * self.determinant(x)[1]

    def determinant(self, x: Configs) -> tuple[Values, Values]:
        """The sign of det D, and ln|det D| (batch,), by even-odd blocks."""
        require_links(x, self.shape)
        to_even, to_odd = self._blocks(x)
        n = to_even.shape[-1]
        one = torch.eye(n, dtype=to_even.dtype)
        sign, log_abs = torch.linalg.slogdet(one - self.kappa**2 * to_even @ to_odd)
        return sign.real.sign(), log_abs

    def matrix(self, x: Configs) -> Tensor:
        """D of each configuration, even sites first: (batch, 2V, 2V), two spins per site."""
        to_even, to_odd = self._blocks(x)
        one = torch.eye(to_even.shape[-1], dtype=to_even.dtype).expand_as(to_even)
        rows = (
            torch.cat((one, -self.kappa * to_even), 2),
            torch.cat((-self.kappa * to_odd, one), 2),
        )
        return torch.cat(rows, 1)

    def _blocks(self, x: Configs) -> tuple[Tensor, Tensor]:
        """H from odd to even sites and from even to odd ones: (batch, V, V)."""
        phases = torch.polar(torch.ones_like(x), x).flatten(1)
        both = torch.cat((phases, phases.conj()), 1)
        values = (both[:, self.hop].unsqueeze(-1) * self.block).flatten(1)
        n = math.prod(self.shape)
        h = values.new_zeros(len(x), 2 * n * n).index_add(1, self.target, values)
        to_even, to_odd = h.view(len(x), 2, n, n).unbind(1)
        return to_even, to_odd


def _hops(shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Every hop: which phase (links, then their conjugates), where it goes, its spin block."""
    n0, n1 = shape
    n = n0 * n1
    rank = torch.empty(shape, dtype=torch.long)
    parity = (torch.arange(n0)[:, None] + torch.arange(n1)) % 2
    for p in (0, 1):
        rank[parity == p] = torch.arange(n // 2)
    spin = torch.arange(2)
    hop, target, block = [], [], []
    one = torch.eye(2, dtype=torch.complex128)
    for mu in (0, 1):
        there_rank, there_parity = rank.roll(-1, mu), parity.roll(-1, mu)
        sign = torch.ones(shape, dtype=torch.float64)
        if mu == 0:
            sign[-1] = -1.0
        link = mu * n + torch.arange(n)
        for forward in (True, False):
            row, p = (rank, parity) if forward else (there_rank, there_parity)
            column = there_rank if forward else rank
            gamma = one - GAMMA[mu] if forward else one + GAMMA[mu]
            entry = (2 * row[..., None, None] + spin[:, None]) * n
            entry = entry + 2 * column[..., None, None] + spin + p[..., None, None] * n * n
            hop.append(link if forward else 2 * n + link)
            target.append(entry.flatten(2).flatten(0, 1))
            block.append((sign.flatten()[:, None, None] * gamma).flatten(1))
    return torch.cat(hop), torch.cat(target).flatten(), torch.cat(block)
