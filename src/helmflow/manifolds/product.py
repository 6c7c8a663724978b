"""Products of manifolds, their coordinates side by side, and the plain real line."""

import math
import re
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import Sphere
from helmflow.manifolds.torus import Torus, require_rows
from helmflow.shapes import Configs


@final
class Euclidean(Manifold):
    """R^dim: nothing is wrapped, nothing is uniform."""

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise InputError("manifold", "at least one coordinate", dim)
        self.dim = self.n_coordinates = dim
        self.log_volume = math.inf

    def __repr__(self) -> str:
        return f"R{self.dim}"

    def require(self, x: Configs) -> None:
        """Raise InputError unless x is (batch, dim) of finite numbers."""
        require_rows(x, self.dim)

    def uniform(self, n: int, generator: torch.Generator) -> Configs:
        """Raise InputError: the volume is infinite."""
        raise InputError("manifold", "a compact manifold for a uniform density", repr(self))

    def exp(self, x: Configs, v: Configs) -> Configs:
        """``x + v``."""
        return x + v

    def log(self, x: Configs, y: Configs) -> Configs:
        """``y - x``."""
        return y - x

    def quadrature(self, n: int) -> tuple[Tensor, Tensor]:
        """Raise InputError: the volume is infinite."""
        raise InputError("manifold", "a compact manifold for a grid", repr(self))


@final
class Product(Manifold):
    """A product with the product metric; the coordinates of the factors follow one another."""

    def __init__(self, factors: Sequence[Manifold]) -> None:
        if not factors:
            raise InputError("manifold", "at least one factor", "none")
        self.factors = tuple(factors)
        self.sizes = [factor.n_coordinates for factor in factors]
        self.dim = sum(factor.dim for factor in factors)
        self.n_coordinates = sum(self.sizes)
        self.log_volume = sum(factor.log_volume for factor in factors)

    def __repr__(self) -> str:
        return " x ".join(map(repr, self.factors))

    def require(self, x: Configs) -> None:
        """Raise InputError unless every part of x is a point of its factor."""
        require_rows(x, self.n_coordinates)
        for factor, part in zip(self.factors, x.split(self.sizes, -1), strict=True):
            factor.require(part)

    def uniform(self, n: int, generator: torch.Generator) -> Configs:
        """Independent uniform points of all factors."""
        return torch.cat([factor.uniform(n, generator) for factor in self.factors], -1)

    def exp(self, x: Configs, v: Configs) -> Configs:
        """The geodesics of all factors."""
        parts = zip(self.factors, x.split(self.sizes, -1), v.split(self.sizes, -1), strict=True)
        return torch.cat([factor.exp(a, b) for factor, a, b in parts], -1)

    def log(self, x: Configs, y: Configs) -> Configs:
        """The shortest vectors of all factors."""
        parts = zip(self.factors, x.split(self.sizes, -1), y.split(self.sizes, -1), strict=True)
        return torch.cat([factor.log(a, b) for factor, a, b in parts], -1)

    def quadrature(self, n: int) -> tuple[Tensor, Tensor]:
        """The product of the grids of all factors."""
        nodes, weights = self.factors[0].quadrature(n)
        for factor in self.factors[1:]:
            more, w = factor.quadrature(n)
            nodes = torch.cat(
                (
                    nodes.repeat_interleave(len(more), 0),
                    more.repeat(len(nodes), 1),
                ),
                -1,
            )
            weights = (weights[:, None] * w).flatten()
        return nodes, weights


FACTORS = {"T": Torus, "S": Sphere, "R": Euclidean}


def parse_manifold(text: str) -> Manifold:
    """The manifold written as ``T2``, ``S3``, ``R10`` or a product such as ``T2 x S2 x R1``."""
    factors = []
    for word in text.split(" x "):
        match = re.fullmatch(r"([TSR])([1-9][0-9]{0,3})", word)
        if match is None:
            raise InputError("manifold", "for example 'T2', 'S3' or 'T2 x S2 x R1'", repr(text))
        factors.append(FACTORS[match[1]](int(match[2])))
    return factors[0] if len(factors) == 1 else Product(factors)
