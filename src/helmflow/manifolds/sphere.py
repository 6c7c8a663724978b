"""The unit sphere, its points as unit vectors of the surrounding space."""

import math
from typing import final

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold, Picture
from helmflow.manifolds.torus import require_grid, require_rows
from helmflow.shapes import Configs

UNIT_TOLERANCE = 1e-9
"""How far from one the length of a point may be."""


@final
class Sphere(Manifold):
    """S^dim in R^(dim + 1), volume ``2 pi^((dim + 1)/2) / Gamma((dim + 1)/2)``."""

    letter = "S"

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise InputError("manifold", "a sphere of dimension one or more", dim)
        self.dim, self.n_coordinates, self.n_features = dim, dim + 1, dim + 1
        half = 0.5 * (dim + 1)
        self.log_volume = math.log(2.0) + half * math.log(math.pi) - math.lgamma(half)
        self.grid_sizes = {1: (257, 384), 2: (97, 128), 3: (29, 36)}.get(dim)

    def features(self, x: Configs) -> Tensor:
        return x

    def require(self, x: Configs) -> None:
        require_rows(x, self.n_coordinates)
        excess = (x.norm(dim=-1) - 1.0).abs()
        if len(x) and not bool(excess.max() <= UNIT_TOLERANCE):
            raise InputError("x", "unit vectors", f"length off by {excess.max().item():.3g}")

    def uniform(self, n: int, generator: torch.Generator) -> Configs:
        x = torch.randn(n, self.n_coordinates, generator=generator, dtype=torch.float64)
        return normalised(x)

    def exp(self, x: Configs, v: Configs) -> Configs:
        """``x cos|v| + v sin|v|/|v|``, of length one again."""
        square = v.square().sum(-1, keepdim=True)
        return normalised(cos_of(square) * x + sinc_of(square) * v)

    def log(self, x: Configs, y: Configs) -> Configs:
        """The tangent vector at x to y, of length the angle between them (pi at most)."""
        cosine = (x * y).sum(-1, keepdim=True)
        across = y - cosine * x
        sine = across.norm(dim=-1, keepdim=True)
        tiny = sine < 1e-150
        ratio = torch.atan2(sine, cosine) / torch.where(tiny, 1.0, sine)
        return across * torch.where(tiny, 1.0, ratio)

    def tangent(self, x: Configs, v: Configs) -> Configs:
        return v - (x * v).sum(-1, keepdim=True) * x

    def tangent_basis(self, x: Configs) -> Tensor:
        """Orthonormal tangent vectors at x, the columns of (batch, dim + 1, dim).

        The first columns of the reflection that takes the last axis to -x or x, whichever does
        not cancel.
        """
        sign = torch.where(x[..., -1:] < 0.0, -1.0, 1.0).to(x)
        last = x[..., -1:] + sign
        first = x[..., :-1]
        # I - u u'/(1 + |x_last|) with u = x + sign e_last
        scale = 1.0 / (1.0 + x[..., -1:].abs())
        u = torch.cat((first, last), -1)
        identity = torch.eye(self.n_coordinates, self.dim, dtype=x.dtype, device=x.device)
        return identity - u.unsqueeze(-1) * (scale * first).unsqueeze(-2)

    def quadrature(self, n: int) -> tuple[Tensor, Tensor]:
        """Gauss nodes in every height, 2 n equal steps in the angle."""
        require_grid(2 * n**self.dim, self)
        angle = math.pi * (torch.arange(2 * n, dtype=torch.float64) + 0.5) / n
        nodes = torch.stack((angle.cos(), angle.sin()), -1)
        weights = torch.full((2 * n,), math.pi / n, dtype=torch.float64)
        for dim in range(2, self.dim + 1):
            height, w = _gauss(n, 0.5 * dim - 1.0)
            radius = (1.0 - height.square()).sqrt()
            along = height[:, None, None].expand(-1, len(nodes), 1)
            nodes = torch.cat((radius[:, None, None] * nodes, along), -1).flatten(0, 1)
            weights = (w[:, None] * weights).flatten()
        return nodes, weights

    def picture(self, n_steps: int) -> Picture | None:
        """Latitude and longitude of S^2; x_3 is the sine of the former."""
        if self.dim != 2:
            return None
        steps = torch.linspace(0.0, 1.0, n_steps + 1, dtype=torch.float64)
        first, second = math.pi * (steps - 0.5), 2.0 * math.pi * (steps - 0.5)
        latitude, longitude = torch.cartesian_prod(first, second).unbind(-1)
        across = latitude.cos()
        points = (across * longitude.cos(), across * longitude.sin(), latitude.sin())
        return first, second, torch.stack(points, -1)


def _gauss(n: int, power: float) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [-1, 1] for the weight function (1 - r^2)^power."""
    from scipy.special import roots_jacobi

    nodes, weights = roots_jacobi(n, power, power)
    return torch.from_numpy(nodes), torch.from_numpy(weights)


def normalised(x: Tensor) -> Tensor:
    """Vectors divided by their length."""
    return x / x.norm(dim=-1, keepdim=True)


SMALL = 1e-2
"""Squared angle below which the functions of it are summed as series."""


def sinc_of(s: Tensor) -> Tensor:
    """``sin(a)/a`` as a function of s = a^2, smooth at zero."""
    small = s < SMALL
    a = torch.where(small, 1.0, s).sqrt()
    series = 1.0 + s * (-1 / 6 + s * (1 / 120 + s * (-1 / 5040 + s / 362880)))
    return torch.where(small, series, a.sin() / a)


def cos_of(s: Tensor) -> Tensor:
    """``cos(a)`` as a function of s = a^2, smooth at zero."""
    small = s < SMALL
    a = torch.where(small, 1.0, s).sqrt()
    series = 1.0 + s * (-1 / 2 + s * (1 / 24 + s * (-1 / 720 + s / 40320)))
    return torch.where(small, series, a.cos())


def cot_deficit_of(s: Tensor) -> Tensor:
    """``(1 - a cot a)/a^2`` as a function of s = a^2 < pi^2, smooth at zero."""
    small = s < SMALL
    safe = torch.where(small, 1.0, s)
    a = safe.sqrt()
    terms = (1 / 3, 1 / 45, 2 / 945, 1 / 4725, 2 / 93555, 1382 / 638512875)
    series = torch.zeros_like(s)
    for term in reversed(terms):
        series = term + s * series
    return torch.where(small, series, (1.0 - a / a.tan()) / safe)


REPULSION_STEPS = 80


def spread_points(sphere: Sphere, n: int, generator: torch.Generator) -> Tensor:
    """n unit vectors (n, dim + 1) far from one another: a spiral on S^2, repelled points above."""
    if n < 1:
        raise InputError("n", "at least one point", n)
    if sphere.dim == 2:
        return _fibonacci(n)
    x = sphere.uniform(n, generator)
    spacing = math.exp((sphere.log_volume - math.log(n)) / sphere.dim)
    for step in range(REPULSION_STEPS):
        square = (2.0 - 2.0 * x @ x.T).clamp_min(1e-6 * spacing**2)
        square.fill_diagonal_(math.inf)
        weight = square ** (-0.5 * sphere.dim - 1.0)
        push = sphere.tangent(x, weight.sum(-1, keepdim=True) * x - weight @ x)
        length = push.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        step_size = 0.3 * spacing * (1.0 - step / REPULSION_STEPS)
        typical = length.median()
        x = normalised(x + push * (step_size / torch.maximum(length, typical)))
    return x


def _fibonacci(n: int) -> Tensor:
    k = torch.arange(n, dtype=torch.float64) + 0.5
    height = 1.0 - 2.0 * k / n
    angle = math.pi * (3.0 - math.sqrt(5.0)) * k
    radius = (1.0 - height.square()).sqrt()
    return torch.stack((radius * angle.cos(), radius * angle.sin(), height), -1)
