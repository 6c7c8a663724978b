"""Products of manifolds, the plain real line, phase space, and what manifolds are called."""

import math
import re
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.rotations import Rotations
from helmflow.manifolds.sphere import UNIT_TOLERANCE, Sphere
from helmflow.manifolds.torus import Torus, require_rows
from helmflow.shapes import Configs


@final
class Euclidean(Manifold):
    """R^dim: nothing is wrapped, nothing is uniform."""

    letter = "R"

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise InputError("manifold", "at least one coordinate", dim)
        self.dim = self.n_coordinates = self.n_features = dim
        self.log_volume = math.inf

    def features(self, x: Configs) -> Tensor:
        return x

    def require(self, x: Configs) -> None:
        require_rows(x, self.dim)

    def uniform(self, n: int, generator: torch.Generator) -> Configs:
        """Raise InputError: the volume is infinite."""
        raise InputError("manifold", "a compact manifold for a uniform density", repr(self))

    def exp(self, x: Configs, v: Configs) -> Configs:
        return x + v

    def log(self, x: Configs, y: Configs) -> Configs:
        return y - x

    def quadrature(self, n: int) -> tuple[Tensor, Tensor]:
        raise InputError("manifold", "a compact manifold for a grid", repr(self))


@final
class Product(Manifold):
    """A product with the product metric; the coordinates of the factors follow one another."""

    letter = "x"

    def __init__(self, factors: Sequence[Manifold]) -> None:
        if not factors:
            raise InputError("manifold", "at least one factor", "none")
        self._factors = tuple(factors)
        self.dim = sum(factor.dim for factor in factors)
        self.n_coordinates = sum(self.sizes)
        self.n_features = sum(factor.n_features for factor in factors)
        self.log_volume = sum(factor.log_volume for factor in factors)
        self.convention = next((f.convention for f in factors if f.convention), "")

    def __repr__(self) -> str:
        return " x ".join(map(repr, self.factors))

    @property
    def factors(self) -> tuple[Manifold, ...]:
        return self._factors

    def aliases(self, x: Configs) -> list[Configs]:
        parts = x.split(self.sizes, -1)
        return [
            torch.cat((*parts[:k], alias, *parts[k + 1 :]), -1)
            for k, factor in enumerate(self.factors)
            for alias in factor.aliases(parts[k])
        ]

    def features(self, x: Configs) -> Tensor:
        return self._each(lambda factor, a: factor.features(a), x)

    def require(self, x: Configs) -> None:
        require_rows(x, self.n_coordinates)
        for factor, part in zip(self.factors, x.split(self.sizes, -1), strict=True):
            factor.require(part)

    def uniform(self, n: int, generator: torch.Generator) -> Configs:
        return torch.cat([factor.uniform(n, generator) for factor in self.factors], -1)

    def exp(self, x: Configs, v: Configs) -> Configs:
        return self._each(lambda factor, a, b: factor.exp(a, b), x, v)

    def log(self, x: Configs, y: Configs) -> Configs:
        return self._each(lambda factor, a, b: factor.log(a, b), x, y)

    def tangent(self, x: Configs, v: Configs) -> Configs:
        return self._each(lambda factor, a, b: factor.tangent(a, b), x, v)

    def quadrature(self, n: int) -> tuple[Tensor, Tensor]:
        nodes, weights = self.factors[0].quadrature(n)
        for factor in self.factors[1:]:
            more, w = factor.quadrature(n)
            pairs = (nodes.repeat_interleave(len(more), 0), more.repeat(len(nodes), 1))
            nodes = torch.cat(pairs, -1)
            weights = (weights[:, None] * w).flatten()
        return nodes, weights

    def _each(self, function: Callable[..., Tensor], *rows: Tensor) -> Tensor:
        """A function of every factor and of its part of the rows."""
        parts = zip(self.factors, *(row.split(self.sizes, -1) for row in rows), strict=True)
        return torch.cat([function(factor, *part) for factor, *part in parts], -1)


FACTORS = {kind.letter: kind for kind in (Torus, Sphere, Euclidean, Rotations)}
"""What a manifold can be made of, by the letters of its name."""


def parse_manifold(text: str) -> Manifold:
    """The manifold written as ``T2``, ``S3``, ``SO3`` or a product such as ``T2 x S2 x R1``."""
    factors = []
    for word in text.split(" x "):
        match = re.fullmatch(r"([A-Z]+)([1-9][0-9]{0,3})", word)
        if match is None or match[1] not in FACTORS:
            expected = "for example 'T2', 'S3', 'SO3' or 'T2 x S2 x R1'"
            raise InputError("manifold", expected, repr(text))
        factors.append(FACTORS[match[1]](int(match[2])))
    return factors[0] if len(factors) == 1 else Product(factors)


def require_phase_space(manifold: Manifold, x: Configs) -> None:
    """Raise InputError unless rows of x are (q, p), q a point and p tangent to the manifold at q.

    A momentum is tangent if the rest of it is at most ``1e-9 (1 + |p|)``.
    """
    require_rows(x, 2 * manifold.n_coordinates)
    q, p = x.chunk(2, -1)
    manifold.require(q)
    across = (p - manifold.tangent(q, p)).norm(dim=-1)
    if bool((across > UNIT_TOLERANCE * (1.0 + p.norm(dim=-1))).any()):
        off = across.max().item()
        raise InputError("x", "momenta tangent to the manifold", f"off by {off:.3g}")
