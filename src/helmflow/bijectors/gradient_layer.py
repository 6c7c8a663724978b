"""Residual layers of SU(N) links: a step along the gradient of plaquettes, exact Jacobian."""

import math
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import Bijector
from helmflow.errors import ConvergenceError, InputError
from helmflow.manifolds.links import require_lattice
from helmflow.manifolds.special_unitary import (
    exponential,
    hermitian_part,
    projected,
    require_colours,
)
from helmflow.shapes import Configs, Values

LARGEST = (0.4, 0.04)
"""Bounds of the two coefficients: the map U -> X(U) then contracts by 0.96 at least."""

MOST_ITERATIONS = 1000
SETTLED = 1e-14


@final
class GradientLayer(Bijector):
    """``U -> exp(i X(U)) U`` on the links of direction ``mu`` on every other line.

    ``X = sum over both plaquettes W of the link, k = 1, 2, of c_k [W^k]``, [W] the traceless
    Hermitian part of -iW: the gradient of ``-sum c_k Re tr W^k / k`` in the Lie algebra. Links
    that move together share no plaquette, so that log|det| is a sum of determinants of N^2 - 1
    dimensions; the inverse is a fixed point. Commutes with gauge transformations. Links are
    (batch, 2, L0, L1, N, N), extents even. Source: A. Abbott et al., arXiv:2305.02402.
    """

    def __init__(self, mu: int, parity: int, n_colours: int) -> None:
        super().__init__()
        if mu not in (0, 1) or parity not in (0, 1):
            raise InputError("mu, parity", "0 or 1 each", (mu, parity))
        self.mu, self.parity = mu, parity
        self.n_colours = require_colours(n_colours)
        self.raw = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("generators", su_generators(n_colours), persistent=False)

    generators: Tensor

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """One step, and its log-determinant in Haar measure."""
        links, staples = self._active(x)
        moved = projected(exponential(self._gradient(links, staples)) @ links)
        return self._put(x, moved), self._log_det(links, staples)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """The fixed point of ``U = exp(-i X(U)) U'``; raises ConvergenceError if none is found."""
        image, staples = self._active(y)
        with torch.no_grad():
            links = image
            for _ in range(MOST_ITERATIONS):
                following = exponential(-self._gradient(links, staples)) @ image
                change = float((following - links).abs().max())
                links = following
                if change < SETTLED:
                    break
            else:
                raise ConvergenceError(f"inverse of a gradient layer: off by {change:.3g}", change)
        links = projected(links)
        return self._put(y, links), -self._log_det(links, staples)

    def _coefficients(self) -> Tensor:
        return self.raw.new_tensor(LARGEST) * torch.tanh(self.raw)

    def _gradient(self, links: Tensor, staples: Tensor) -> Tensor:
        """X for active links (..., N, N) and their two staples (2, ..., N, N)."""
        first, second = self._coefficients()
        w = links @ staples
        return hermitian_part(first * w + second * (w @ w)).sum(0)

    def _log_det(self, links: Tensor, staples: Tensor) -> Values:
        """Sum over links of ln det of the map in the frames exp(i t T_a) U of both sides.

        The derivative of exp in a direction is a corner of exp of a matrix of twice the size.
        """
        first, second = self._coefficients()
        t = self.generators
        w = (links @ staples).unsqueeze(-3)
        turned = first * (t @ w) + second * (t @ w @ w + w @ t @ w)
        change = hermitian_part(1j * turned).sum(0)
        x = hermitian_part(first * w + second * (w @ w)).sum(0).expand_as(change)
        zero = torch.zeros_like(x)
        blocks = torch.cat((torch.cat((x, change), -1), torch.cat((zero, x), -1)), -2)
        n = self.n_colours
        whole = torch.linalg.matrix_exp(1j * blocks)
        e, slope = whole[..., :n, :n], whole[..., :n, n:]
        columns = (slope + e @ (1j * t)) @ e.mH / 1j
        jacobian = 0.5 * torch.einsum("...aij,bji->...ab", columns, t).real
        return torch.linalg.slogdet(jacobian).logabsdet.flatten(1).sum(1)

    def _lines(self, x: Configs) -> Tensor:
        shape = require_lattice((x.shape[2], x.shape[3]), 2)
        return torch.arange(self.parity, shape[1 - self.mu], 2)

    def _active(self, x: Configs) -> tuple[Tensor, Tensor]:
        """Active links, and for each the rest of its two plaquettes: loops are link @ staple."""
        along, across = x[:, self.mu], x[:, 1 - self.mu]
        a, b = 1 + self.mu, 2 - self.mu
        ahead = across.roll(-1, a)
        up = ahead @ along.roll(-1, b).mH @ across.mH
        down = ahead.roll(1, b).mH @ along.roll(1, b).mH @ across.roll(1, b)
        lines = self._lines(x)
        chosen = [part.index_select(b, lines) for part in (along, up, down)]
        return chosen[0], torch.stack(chosen[1:])

    def _put(self, x: Configs, links: Tensor) -> Configs:
        along = x[:, self.mu].index_copy(2 - self.mu, self._lines(x), links)
        pair = (along, x[:, 1]) if self.mu == 0 else (x[:, 0], along)
        return torch.stack(pair, 1)


def gradient_layers(n_sweeps: int, n_colours: int) -> list[Bijector]:
    """Layers for a `Chain` that move every link once per sweep; the identity at the start."""
    return [
        GradientLayer(mu, parity, n_colours)
        for _ in range(n_sweeps)
        for mu in (0, 1)
        for parity in (0, 1)
    ]


def su_generators(n: int) -> Tensor:
    """Traceless Hermitian T_a (N^2 - 1, N, N) with ``tr T_a T_b = 2 delta_ab``."""
    found = []
    for i in range(n):
        for j in range(i + 1, n):
            for value in (1.0 + 0j, -1j):
                t = torch.zeros(n, n, dtype=torch.complex128)
                t[i, j], t[j, i] = value, value.conjugate()
                found.append(t)
    for k in range(1, n):
        diagonal = torch.tensor([1.0] * k + [-float(k)] + [0.0] * (n - k - 1))
        scale = math.sqrt(2.0 / (k * (k + 1)))
        found.append(torch.diag((scale * diagonal.double()).to(torch.complex128)))
    return torch.stack(found)
