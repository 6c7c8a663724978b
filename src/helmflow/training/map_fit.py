"""Fitting a map between two states to samples of both."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Generator, Tensor

from helmflow.bijectors.affine import DenseAffine
from helmflow.bijectors.base import Bijector, Identity, Inverse
from helmflow.bijectors.conjugated import conjugated
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential, work
from helmflow.shapes import Configs, Values


@dataclass(frozen=True)
class TwoStates:
    """Two states and samples of each: all that fitting a map may see.

    ``held_a`` and ``held_b`` are for choosing a ridge or stopping early; samples that an estimate
    is made from are in neither.
    """

    u_a: ReducedPotential
    u_b: ReducedPotential
    x_a: Configs
    x_b: Configs
    held_a: Configs
    held_b: Configs

    def works(self, bijector: Bijector, *, held: bool) -> tuple[Values, Values]:
        """Works w_F (n,), w_R (m,) in kT of the fitting or of the held-out samples."""
        a, b = (self.held_a, self.held_b) if held else (self.x_a, self.x_b)
        return two_works(bijector, self.u_a, self.u_b, a, b)

    def through(self, coordinates: Bijector) -> "TwoStates":
        """The same samples in other coordinates, ``coordinates.forward(x)``."""
        names = ("x_a", "x_b", "held_a", "held_b")
        return replace(self, **{k: coordinates.forward(getattr(self, k))[0] for k in names})


def two_works(
    bijector: Bijector, u_a: ReducedPotential, u_b: ReducedPotential, x_a: Configs, x_b: Configs
) -> tuple[Values, Values]:
    """Works w_F of samples of A and w_R of samples of B through one map, in kT."""
    return work(x_a, u_a, u_b, bijector), work(x_b, u_b, u_a, Inverse(bijector))


class MapFit(ABC):
    """A way to turn samples of two states into a map from A to B."""

    name: str

    @abstractmethod
    def fit(self, states: TwoStates, generator: Generator) -> Bijector:
        """The map; it may look at everything in ``states``."""


@final
class GaussianFit(MapFit):
    """The linear map that carries the mean and covariance of A's samples to those of B.

        y = m_B + T (x - m_A),   T = S_A^(-1/2) (S_A^(1/2) S_B S_A^(1/2))^(1/2) S_A^(-1/2)

    the optimal transport between two Gaussians, with every covariance shrunk towards its diagonal
    as far as the held-out dissipation asks for. ``coordinates`` turns configurations into those
    in which the map is linear, for example internal ones; by default it is linear in x itself.
    Source: I. Olkin, F. Pukelsheim, doi:10.1016/0024-3795(82)90112-4.
    """

    name = "gaussian"

    def __init__(
        self,
        coordinates: Bijector | None = None,
        *,
        shrinkage: tuple[float, ...] = (0.02, 0.1, 0.3, 0.6, 1.0),
    ) -> None:
        self.coordinates = coordinates
        self.shrinkage = shrinkage

    def fit(self, states: TwoStates, generator: Generator) -> Bijector:
        inner = states.through(self.coordinates) if self.coordinates is not None else states
        if min(len(inner.x_a), len(inner.x_b)) < 3:
            raise InputError("samples", "at least 3 samples a side to fit a map", len(inner.x_a))
        return self._wrapped(self.best(inner, lambda f: states.works(self._wrapped(f), held=True)))

    def best(
        self, states: TwoStates, works: Callable[[Bijector], tuple[Values, Values]]
    ) -> Bijector:
        """The linear map of ``states`` with the shrinkage of least held-out dissipation.

        ``works(map)`` are the held-out works w_F and w_R with a candidate.
        """
        candidates = [_transport(states.x_a, states.x_b, k) for k in self.shrinkage]
        return least_dissipation(candidates, works)

    def _wrapped(self, inner: Bijector) -> Bijector:
        if self.coordinates is None:
            return inner
        return conjugated(self.coordinates, inner)


def least_dissipation(
    candidates: Sequence[Bijector], works: Callable[[Bijector], tuple[Values, Values]]
) -> Bijector:
    """The map of least w_F + w_R, ``works(map)``; the identity when all are infinite.

    Of medians: one sample with an absurd work must not choose the map.
    """
    best: Bijector = Identity()
    least = torch.inf
    for candidate in candidates:
        w_F, w_R = works(candidate)
        dissipation = float(w_F.median() + w_R.median())
        if dissipation < least:
            best, least = candidate, dissipation
    return best


def optimal_transport(a: Tensor, b: Tensor) -> Tensor:
    """The symmetric matrix T with T a T = b, for covariances a and b."""
    root, inverse = _roots(a)
    return inverse @ _roots(root @ b @ root)[0] @ inverse


def _transport(x_a: Configs, x_b: Configs, shrinkage: float) -> DenseAffine:
    (m_a, s_a), (m_b, s_b) = (_moments(x, shrinkage) for x in (x_a, x_b))
    matrix = optimal_transport(s_a, s_b)
    event = x_a.shape[1:]
    return DenseAffine(matrix, (m_b - matrix @ m_a).reshape(event))


def _moments(x: Configs, shrinkage: float) -> tuple[Tensor, Tensor]:
    flat = x.flatten(1)
    covariance = torch.cov(flat.T).reshape(flat.shape[1], flat.shape[1])
    diagonal = torch.diag(covariance.diagonal().clamp_min(1e-300))
    return flat.mean(0), (1.0 - shrinkage) * covariance + shrinkage * diagonal


def _roots(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of a positive matrix and its inverse."""
    values, vectors = torch.linalg.eigh(matrix)
    root = values.clamp_min(1e-14 * float(values[-1])).sqrt()
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T
