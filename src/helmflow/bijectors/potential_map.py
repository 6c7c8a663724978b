"""Maps that follow the gradient of a potential along geodesics, on tori and spheres.

``F(x) = exp_x(grad psi(x))`` with v = grad psi(x). Its derivative, in orthonormal tangent frames,
has the determinant

    det dF = (sin|v|/|v|)^(D-1) det A,    A = Hess psi + phi I + (1 - phi) v v'/|v|^2

with phi = |v| cot|v| on the sphere (phi = 1 and no sine on the torus): A is the Hessian at x of
half the squared distance to F(x), plus that of psi. F is a diffeomorphism exactly where A is
positive definite everywhere, and on the sphere |v| < pi: it is homotopic to the identity, and a
local diffeomorphism of a compact manifold is a covering. Used backwards it is the implicit map of
a c-concave potential. Source: S. Cohen, B. Amos, Y. Lipman, arXiv:2106.10272; D. J. Rezende,
S. Racaniere, arXiv:2110.01288; R. J. McCann, doi:10.1007/PL00001679.
"""

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.potentials import Potential
from helmflow.errors import ConvergenceError
from helmflow.manifolds.sphere import Sphere, cot_deficit_of, sinc_of
from helmflow.manifolds.torus import Torus
from helmflow.shapes import Configs, Values

MOST_STEPS = 60
LONGEST_STEP = 0.25
"""Of Newton's method, in radians."""

RESIDUAL = 1e-13
"""Where the search stops; a residual above `_GIVEN_UP` is a failure."""

_GIVEN_UP = 1e-9


class PotentialMap(Bijector, ABC):
    """``x -> exp_x(grad psi(x))`` forwards in closed form, backwards by Newton's method.

    The log-determinant is NaN where the map folds, that is where A is not positive definite.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    @abstractmethod
    def tangent_jet(self, x: Configs, gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
        """v (batch, D) and Riemannian Hessian (batch, D, D) from Euclidean ones, in a frame."""

    @abstractmethod
    def ambient(self, x: Configs, p: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        """The transpose of `tangent_jet`: derivatives along Euclidean gradient and Hessian."""

    @abstractmethod
    def stiffness(self, v: Tensor, hessian: Tensor) -> Tensor:
        """A (batch, D, D)."""

    @abstractmethod
    def log_det(self, v: Tensor, hessian: Tensor) -> Values:
        """``log det dF`` (batch,), NaN where the map folds."""

    @abstractmethod
    def _move(self, x: Configs, step: Tensor) -> Configs:
        """The geodesic from x along a step (batch, D) given in the frame at x."""

    @abstractmethod
    def _gap(self, x: Configs, y: Configs) -> Tensor:
        """The vector (batch, D) from x to y in the frame at x."""

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        v, hessian = self.tangent_jet(x, *self.potential.jet(x))
        return self._move(x, v), self.log_det(v, hessian)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """The root x of ``F(x) = y``, differentiable through the implicit-function theorem.

        Raises ConvergenceError where no root is found, as happens when the map folds.
        """
        with torch.no_grad():
            x = self._search(y.detach())
        v, hessian = self.tangent_jet(x, *self.potential.jet(x))
        residual = self._residual(x, y, v)
        step = torch.linalg.solve(self._newton_matrix(x, y, hessian).detach(), residual)
        x = self._move(x, -step)
        v, hessian = self.tangent_jet(x, *self.potential.jet(x))
        return x, -self.log_det(v, hessian)

    def least_eigenvalue(self, x: Configs) -> Values:
        """The least eigenvalue (batch,) of A: positive everywhere means a diffeomorphism."""
        v, hessian = self.tangent_jet(x, *self.potential.jet(x))
        return torch.linalg.eigvalsh(self.stiffness(v, hessian))[..., 0]

    def _newton_matrix(self, x: Configs, y: Configs, hessian: Tensor) -> Tensor:
        return self.stiffness(self._gap(x, y), hessian)

    def _residual(self, x: Configs, y: Configs, v: Tensor) -> Tensor:
        """What vanishes where ``exp_x(v) = y``: the gradient of psi + d^2(., y)/2."""
        return v - self._gap(x, y)

    def _search(self, y: Configs) -> Configs:
        """Newton's method with halved steps, on the points that are not yet there."""
        x, step = y.clone(), torch.zeros_like(self._gap(y, y))
        norm = torch.full((len(y),), math.inf, dtype=y.dtype)
        scale = torch.ones_like(norm)
        trial = x.clone()
        active = torch.arange(len(y))
        for _ in range(MOST_STEPS):
            at, to = trial[active], y[active]
            v, hessian = self.tangent_jet(at, *self.potential.jet(at))
            residual = self._residual(at, to, v)
            size = residual.norm(dim=-1)
            better = size < norm[active]
            moved, stuck = active[better], active[~better]
            x[moved], norm[moved] = at[better], size[better]
            matrix = self._newton_matrix(at[better], to[better], hessian[better])
            step[moved] = _newton_step(matrix, residual[better])
            scale[moved] = 1.0
            scale[stuck] *= 0.5
            trial[active] = self._move(x[active], scale[active, None] * step[active])
            active = active[(norm[active] > RESIDUAL) & (scale[active] > 1e-3)]
            if len(active) == 0:
                break
        worst = float(norm.max()) if len(norm) else 0.0
        if not worst <= _GIVEN_UP:
            raise ConvergenceError("inverse of a potential map (does it fold?)", worst)
        return x


@final
class TorusPotentialMap(PotentialMap):
    """``x -> x + grad psi(x)`` on T^D: one potential maps the torus onto itself."""

    def __init__(self, potential: Potential, dim: int) -> None:
        super().__init__(potential)
        self.manifold = Torus(dim)

    def tangent_jet(self, x: Configs, gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, hessian

    def ambient(self, x: Configs, p: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        return p, P

    def stiffness(self, v: Tensor, hessian: Tensor) -> Tensor:
        return hessian + torch.eye(hessian.shape[-1], dtype=hessian.dtype)

    def log_det(self, v: Tensor, hessian: Tensor) -> Values:
        return log_det_positive(self.stiffness(v, hessian))

    def _move(self, x: Configs, step: Tensor) -> Configs:
        return self.manifold.exp(x, step)

    def _gap(self, x: Configs, y: Configs) -> Tensor:
        return self.manifold.log(x, y)

    def _residual(self, x: Configs, y: Configs, v: Tensor) -> Tensor:
        """The same without a bound on v: any number of turns counts."""
        return -self.manifold.log(x + v, y)


@final
class SpherePotentialMap(PotentialMap):
    """``x -> exp_x(grad psi(x))`` on S^D; psi is given on the surrounding space."""

    def __init__(self, potential: Potential, dim: int) -> None:
        super().__init__(potential)
        self.manifold = Sphere(dim)

    def tangent_jet(self, x: Configs, gradient: Tensor, hessian: Tensor) -> tuple[Tensor, Tensor]:
        """``E' g`` and ``E' S E - (x . g) I`` in the frame E of `Sphere.tangent_basis`."""
        frame = self.manifold.tangent_basis(x)
        v = (gradient.unsqueeze(-2) @ frame).squeeze(-2)
        radial = (x * gradient).sum(-1)[..., None, None]
        identity = torch.eye(self.manifold.dim, dtype=x.dtype)
        return v, frame.mT @ hessian @ frame - radial * identity

    def ambient(self, x: Configs, p: Tensor, P: Tensor) -> tuple[Tensor, Tensor]:
        """``E p - x tr P`` and ``E P E'``."""
        frame = self.manifold.tangent_basis(x)
        trace = P.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
        return (frame @ p.unsqueeze(-1)).squeeze(-1) - trace * x, frame @ P @ frame.mT

    def stiffness(self, v: Tensor, hessian: Tensor) -> Tensor:
        """``Hess psi + phi I + (1 - phi) v v'/|v|^2``."""
        square = v.square().sum(-1)[..., None, None]
        deficit = cot_deficit_of(square)
        identity = torch.eye(hessian.shape[-1], dtype=hessian.dtype)
        outer = v.unsqueeze(-1) * v.unsqueeze(-2)
        return hessian + (1.0 - square * deficit) * identity + deficit * outer

    def log_det(self, v: Tensor, hessian: Tensor) -> Values:
        """``(D - 1) log(sin|v|/|v|) + log det A``, NaN beyond |v| = pi."""
        square = v.square().sum(-1)
        inside = torch.where(square < math.pi**2, square, math.nan)
        stretch = (self.manifold.dim - 1) * sinc_of(inside).log()
        return stretch + log_det_positive(self.stiffness(v, hessian))

    def _move(self, x: Configs, step: Tensor) -> Configs:
        frame = self.manifold.tangent_basis(x)
        return self.manifold.exp(x, (frame @ step.unsqueeze(-1)).squeeze(-1))

    def _gap(self, x: Configs, y: Configs) -> Tensor:
        frame = self.manifold.tangent_basis(x)
        return (self.manifold.log(x, y).unsqueeze(-2) @ frame).squeeze(-2)


def log_det_positive(matrix: Tensor) -> Values:
    """``log det`` of symmetric matrices (batch, D, D), NaN for those not positive definite.

    Elimination written out over the batch: for the few dimensions met here much faster than a
    library call per matrix, and differentiable to any order.
    """
    dim = matrix.shape[-1]
    rows = [[matrix[..., i, j] for j in range(dim)] for i in range(dim)]
    total = torch.zeros_like(rows[0][0])
    for k in range(dim):
        pivot = rows[k][k]
        total = total + pivot.log()
        for i in range(k + 1, dim):
            factor = rows[i][k] / pivot
            for j in range(k + 1, i + 1):
                rows[i][j] = rows[i][j] - factor * rows[j][k]
    return total


def _newton_step(matrix: Tensor, residual: Tensor) -> Tensor:
    """Minus the inverse times the residual, eigenvalues made positive, length capped.

    Small positive eigenvalues are real where the density is low: a floor would spoil convergence.
    """
    values, vectors = torch.linalg.eigh(matrix)
    positive = torch.where(values > 1e-9, values, values.abs().clamp_min(1e-3))
    along = (vectors.mT @ residual.unsqueeze(-1)).squeeze(-1) / positive
    step = -(vectors @ along.unsqueeze(-1)).squeeze(-1)
    length = step.norm(dim=-1, keepdim=True)
    return step * (LONGEST_STEP / length.clamp_min(LONGEST_STEP))
