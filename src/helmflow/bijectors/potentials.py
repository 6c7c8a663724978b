"""Smooth functions on tori and spheres, with their first two derivatives in closed form.

A potential is given on the surrounding space: its Euclidean gradient and Hessian there are all a
map needs to know, whatever the manifold.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor, nn

from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

UNIT = 1e-6
"""How far from one the length of a given centre may be."""


class Potential(nn.Module, ABC):
    """A function psi of points (batch, n), smooth around the manifold they lie on."""

    @abstractmethod
    def forward(self, x: Configs) -> Values:
        """psi (batch,)."""

    @abstractmethod
    def jet(self, x: Configs) -> tuple[Tensor, Tensor]:
        """Euclidean gradient (batch, n) and Hessian (batch, n, n)."""


def unit_rows(field: str, rows: Tensor) -> Tensor:
    """The rows (M, n), M > 0; raises InputError unless all are unit vectors, to 1e-6."""
    if rows.ndim != 2 or len(rows) == 0:
        raise InputError(field, "vectors (M, n)", tuple(rows.shape))
    excess = (rows.detach().norm(dim=-1) - 1.0).abs()
    if not bool((excess <= UNIT).all()):
        raise InputError(field, "unit vectors", f"length off by {excess.max().item():.3g}")
    return rows


class Features(ABC):
    """The basis of a linear potential, evaluated once at fixed points."""

    @abstractmethod
    def jet(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and Hessian of ``sum_j a_j psi_j`` for coefficients a (M,)."""

    @abstractmethod
    def pull_back(self, along_gradient: Tensor, along_hessian: Tensor) -> Tensor:
        """``<p_i, grad psi_j> + <P_i, Hess psi_j>`` (batch, M), p (batch, n), P (batch, n, n)."""


class LinearPotential(Potential):
    """A sum of fixed functions with learned coefficients (M,), zero at first."""

    coefficients: nn.Parameter

    @abstractmethod
    def features(self, x: Configs) -> Features:
        """The basis at points x (batch, n)."""

    def jet(self, x: Configs) -> tuple[Tensor, Tensor]:
        return self.features(x).jet(self.coefficients)


@final
class FourierPotential(LinearPotential):
    """``psi = sum_k (a_k cos k.x + b_k sin k.x)/|k|^2`` over whole vectors 0 < |k| <= radius.

    Of k and -k only one is used. The number of functions grows like radius^D.
    """

    modes: Tensor

    def __init__(self, dim: int, radius: float) -> None:
        super().__init__()
        half = [k for k in _whole_vectors(dim, radius * radius) if k > (0,) * dim]
        if not half:
            raise InputError("radius", "at least 1", radius)
        self.register_buffer("modes", torch.tensor(half, dtype=torch.float64))
        self.coefficients = nn.Parameter(torch.zeros(2 * len(half), dtype=torch.float64))

    def forward(self, x: Configs) -> Values:
        phase = x @ self.modes.T
        a, b = (self.coefficients.view(2, -1) / self.modes.square().sum(-1)).unbind()
        return phase.cos() @ a + phase.sin() @ b

    def features(self, x: Configs) -> "Features":
        return _FourierFeatures(self.modes, x @ self.modes.T)


def _whole_vectors(dim: int, square: float) -> Iterator[tuple[int, ...]]:
    """All vectors of ``dim`` whole numbers whose squares sum to at most ``square``, in order."""
    if dim == 0:
        yield ()
        return
    reach = int(math.sqrt(square))
    for first in range(-reach, reach + 1):
        for rest in _whole_vectors(dim - 1, square - first * first):
            yield (first, *rest)


class _FourierFeatures(Features):
    def __init__(self, modes: Tensor, phase: Tensor) -> None:
        self.cos, self.sin = phase.cos(), phase.sin()
        square = modes.square().sum(-1, keepdim=True)
        n = modes.shape[1]
        self.n = n
        self.first = modes / square
        self.second = (modes.unsqueeze(-1) * modes.unsqueeze(-2)).flatten(1) / square

    def jet(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        a, b = coefficients.view(2, -1).unbind()
        gradient = (b * self.cos - a * self.sin) @ self.first
        hessian = -(a * self.cos + b * self.sin) @ self.second
        return gradient, hessian.unflatten(-1, (self.n, self.n))

    def pull_back(self, along_gradient: Tensor, along_hessian: Tensor) -> Tensor:
        first = along_gradient @ self.first.T
        second = along_hessian.flatten(1) @ self.second.T
        return torch.cat(
            (-self.sin * first - self.cos * second, self.cos * first - self.sin * second), -1
        )


@final
class RadialPotential(LinearPotential):
    """``psi = sum_j a_j exp(sharpness (x . mu_j - 1))`` about fixed unit vectors mu_j (M, n)."""

    centres: Tensor

    def __init__(self, centres: Tensor, sharpness: float) -> None:
        super().__init__()
        if not sharpness > 0:
            raise InputError("sharpness", "a positive number", sharpness)
        self.sharpness = sharpness
        self.register_buffer("centres", unit_rows("centres", centres))
        self.coefficients = nn.Parameter(torch.zeros(len(centres), dtype=torch.float64))

    def forward(self, x: Configs) -> Values:
        return self._kernel(x) @ self.coefficients

    def features(self, x: Configs) -> "Features":
        return _RadialFeatures(self.centres, self.sharpness, self._kernel(x))

    def _kernel(self, x: Configs) -> Tensor:
        return (self.sharpness * (x @ self.centres.T - 1.0)).exp()


class _RadialFeatures(Features):
    def __init__(self, centres: Tensor, sharpness: float, kernel: Tensor) -> None:
        self.kernel, self.n = kernel, centres.shape[1]
        self.first = sharpness * centres
        self.second = (self.first.unsqueeze(-1) * self.first.unsqueeze(-2)).flatten(1)

    def jet(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        gradient = self.kernel @ (coefficients[:, None] * self.first)
        hessian = self.kernel @ (coefficients[:, None] * self.second)
        return gradient, hessian.unflatten(-1, (self.n, self.n))

    def pull_back(self, along_gradient: Tensor, along_hessian: Tensor) -> Tensor:
        return self.kernel * (
            along_gradient @ self.first.T + along_hessian.flatten(1) @ self.second.T
        )


@final
class SymmetrisedPotential(LinearPotential):
    """The mean of a linear potential over a finite group of isometries ``x -> R x + s``.

    ``rotations`` (G, n, n) and ``shifts`` (G, n; zero for spheres) list the whole group, so that
    ``psi(R x + s) = psi(x)`` for every element and the map it generates commutes with them.
    """

    rotations: Tensor
    shifts: Tensor

    def __init__(
        self, inner: LinearPotential, rotations: Tensor, shifts: Tensor | None = None
    ) -> None:
        super().__init__()
        self.inner = inner
        self.coefficients = inner.coefficients
        n = rotations.shape[-1]
        product = rotations.mT @ rotations - torch.eye(n, dtype=rotations.dtype)
        if not bool(product.abs().max() < 1e-9):
            raise InputError("rotations", "orthogonal matrices", "another one")
        self.register_buffer("rotations", rotations)
        self.register_buffer("shifts", rotations.new_zeros(len(rotations), n))
        if shifts is not None:
            self.shifts = shifts

    def forward(self, x: Configs) -> Values:
        images = [self.inner(x @ r.T + s) for r, s in self._group()]
        return torch.stack(images).mean(0)

    def features(self, x: Configs) -> "Features":
        images = [self.inner.features(x @ r.T + s) for r, s in self._group()]
        return _SymmetrisedFeatures(images, self.rotations)

    def _group(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.rotations, self.shifts, strict=True))


class _SymmetrisedFeatures(Features):
    def __init__(self, images: list[Features], rotations: Tensor) -> None:
        self.images, self.rotations = images, rotations

    def jet(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """``mean R' grad`` and ``mean R' Hess R`` over the group."""
        gradient = hessian = torch.tensor(0.0)
        for features, r in zip(self.images, self.rotations, strict=True):
            g, h = features.jet(coefficients)
            gradient, hessian = gradient + g @ r, hessian + r.T @ h @ r
        return gradient / len(self.images), hessian / len(self.images)

    def pull_back(self, along_gradient: Tensor, along_hessian: Tensor) -> Tensor:
        total = torch.tensor(0.0)
        for features, r in zip(self.images, self.rotations, strict=True):
            total = total + features.pull_back(along_gradient @ r.T, r @ along_hessian @ r.T)
        return total / len(self.images)
