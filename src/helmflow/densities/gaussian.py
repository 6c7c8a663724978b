"""Normal densities given by their precision matrix, with or without uniform translations."""

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.manifolds.cells import Blocks, CellGrid
from helmflow.shapes import Values

FORCELESS = 1e-12
"""Force constants below this fraction of the mean one are zero but for rounding."""


class Gaussian(Density):
    """Normal density about zero whose negative logarithm is a quadratic form.

    p(u) = exp(-u K u / 2) / c,   ln c = (dim/2) ln 2 pi - (1/2) ln det' K

    ``u`` is (batch, n), dim = n - n_translations. With ``n_translations = d`` the coordinates are
    d-vectors on n/d sites and the density lives on the subspace of zero mean displacement: det'
    leaves the d uniform translations out, and the measure is the Lebesgue measure of that
    subspace in orthonormal coordinates. With ``cells``, K commutes with the translations of the
    grid and all algebra is done wave vector by wave vector. Raises InputError when K is not
    positive definite.

    ``colour`` turns white noise z (batch, n) into u; with translations removed, ``d`` of the n
    components of z are idle and ``noise`` keeps them zero.
    """

    def __init__(
        self, precision: Tensor, *, n_translations: int = 0, cells: CellGrid | None = None
    ) -> None:
        super().__init__()
        n = len(precision)
        components = max(n_translations, 1)
        if cells is None:
            cells = CellGrid((1,), np.arange(n // components)[None], components)
        self.cells = cells
        self.n_translations = n_translations
        self.dim = n - n_translations
        self.precision = precision
        single, pair = cells.blocks(precision)
        # Uniform translations live at k = 0: there the block is reduced to their complement.
        frame = self._complement(cells.block_size, single.dtype)
        reduced = self._factor((frame.T @ single[0] @ frame)[None])[0]
        roots = [self._factor(single[1:]), self._factor(pair)]
        inverses = [_inverse(root) for root in roots]
        log_det = sum(
            2.0 * r.diagonal(dim1=-2, dim2=-1).log().sum().item() for r in (reduced, *roots)
        )
        self.log_normalizer = 0.5 * self.dim * math.log(2 * math.pi) - 0.5 * log_det
        """ln c, so that -ln c is the free energy of u K u / 2 in kT."""
        pad = (0, 0, 0, n_translations)
        root = torch.nn.functional.pad(reduced.T @ frame.T, pad)  # rows: modes, columns: sites
        inverse = torch.nn.functional.pad(_inverse(reduced[None])[0] @ frame.T, pad)
        self._colour: Blocks = (torch.cat([inverse[None], inverses[0]]), inverses[1])
        self._force: Blocks = (torch.cat([root[None], roots[0].mT]), roots[1].mT.contiguous())
        self._pull, self._whiten = _transposed(self._colour), _transposed(self._force)

    def _complement(self, size: int, dtype: torch.dtype) -> Tensor:
        """Orthonormal columns (size, size - d) orthogonal to the uniform translations."""
        d = self.n_translations
        if not d:
            return torch.eye(size, dtype=dtype)
        uniform = torch.eye(d, dtype=dtype).repeat(size // d, 1)
        return torch.linalg.qr(uniform, mode="complete").Q[:, d:]

    def _factor(self, blocks: Tensor) -> Tensor:
        root, info = torch.linalg.cholesky_ex(blocks)
        # A mode without force may come out positive by rounding.
        weakest = FORCELESS * self.precision.diagonal().mean()
        if not info.any() and (root.diagonal(dim1=-2, dim2=-1).square() > weakest).all():
            return root
        values, vectors = torch.linalg.eigh(self.precision)
        count = int((values < -1e-9 * values[-1]).sum())
        if count == 0:
            raise InputError("structure", "particles held in place by forces", "modes without any")
        site = int(vectors[:, 0].abs().argmax()) // max(self.n_translations, 1)
        raise InputError(
            "structure",
            "a minimum of the potential (no imaginary modes)",
            f"{count} imaginary mode(s), the lowest with force constant {values[0].item():.3g} "
            f"kT/length^2 and its largest amplitude on site {site}",
        )

    def colour(self, z: Tensor) -> Tensor:
        """u = K^(-1/2) z: displacements (batch, n) of unit white noise z (batch, n)."""
        return self.cells.from_modes(z, self._colour)

    def pull(self, gradient: Tensor) -> Tensor:
        """Gradient with respect to z from the gradient with respect to u, both (batch, n)."""
        return self.cells.to_modes(gradient, self._pull)

    def whiten(self, u: Tensor) -> Tensor:
        """z = K^(1/2) u, the inverse of ``colour`` on displacements of zero mean."""
        return self.cells.to_modes(u, self._whiten)

    def force(self, z: Tensor) -> Tensor:
        """K u (batch, n) at u = colour(z)."""
        return self.cells.from_modes(z, self._force)

    def log_prob(self, u: Tensor) -> Values:
        """Normalised log density of u (batch, n), differentiable once."""
        return _LogProb.apply(u, self) - self.log_normalizer

    def sample(self, n: int, generator: Generator) -> Tensor:
        """Independent draws (n, dim of u)."""
        return self.colour(self.noise(n, generator))

    def noise(self, n: int, generator: Generator) -> Tensor:
        """Independent standard normal numbers (n, dim of u), idle components zero."""
        z = torch.randn(n, len(self.precision), generator=generator, dtype=torch.float64)
        size = self.cells.block_size
        z[:, size - self.n_translations : size] = 0.0
        return z

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Tensor, Values]:
        u = self.sample(n, generator)
        return u, self.log_prob(u)

    @cached_property
    def covariance(self) -> Tensor:
        """K^-1 on the subspace of zero mean displacement: (n, n)."""
        first = torch.zeros(self.cells.block_size, len(self.precision), dtype=torch.float64)
        first[torch.arange(len(first)), self.cells.first_cell] = 1.0
        return self.cells.spread(self.colour(self.pull(first)))


class _LogProb(torch.autograd.Function):
    """-u K u / 2 with its gradient -K u, which the modes of u already know."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, density: Gaussian) -> Tensor:
        z = density.whiten(u.detach())
        ctx.density = density
        ctx.save_for_backward(z)
        return -0.5 * z.square().sum(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return -upstream[:, None] * ctx.density.force(z), None


def _transposed(blocks: Blocks) -> Blocks:
    return blocks[0].mT.contiguous(), blocks[1].mT.contiguous()


def _inverse(root: Tensor) -> Tensor:
    identity = torch.eye(root.shape[-1], dtype=root.dtype).expand_as(root)
    return torch.linalg.solve_triangular(root, identity, upper=False)
