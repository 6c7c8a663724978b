"""What the ladder from a Gaussian base to a target needs to know about a system."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from torch import Generator, Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.families.path.well import WHOLE, Well
from helmflow.fields.base import GradientField, TransportField
from helmflow.manifolds.symmetry import SymmetryGroup
from helmflow.shapes import Values
from helmflow.skeleton.budget import Budget
from helmflow.system import System


class Problem(ABC):
    """A system in flat coordinates u (batch, n) about its reference, measured in kT.

    ``budget`` counts every energy.
    """

    noun: str  # "crystal" or "field"
    symmetry: SymmetryGroup
    n_translations: int
    observable_names: tuple[str, ...]
    fit_iterations: int  # of the self-consistent base
    costly: bool = False  # whether one evaluation takes milliseconds rather than microseconds
    smooth: bool = True  # whether forces are continuous
    continuous: bool = True  # whether the energy is
    well: Well = WHOLE  # which part of the target, seen from where
    n_jumps: int = 0  # proposals of ``jump`` after every trajectory

    def __init__(self, system: System, budget: Budget | None = None) -> None:
        self.system = system
        self.budget = budget or Budget()

    @abstractmethod
    def target(self, u: Tensor) -> tuple[Values, Tensor]:
        """Reduced potential (batch,) and its gradient (batch, n)."""

    @abstractmethod
    def starting_precision(self) -> Tensor:
        """Force constants (n, n) of a first Gaussian base, in kT/length^2."""

    @abstractmethod
    def fields(self, base: Gaussian) -> Sequence[GradientField]:
        """Generators of the control variates."""

    @abstractmethod
    def transport_fields(
        self, base: Gaussian, grids: Sequence[Sequence[float]] = ()
    ) -> Sequence[TransportField]:
        """What drives a transport flow besides u K u / 2; ``grids`` as ``grids`` returned them."""

    def jump(self, u: Tensor, generator: Generator) -> Tensor:
        """Proposals (batch, n) far from u (batch, n), as likely as their way back; none here."""
        return u

    def in_well(self, well: Well) -> Self:
        """The same system seen from one of the wells that a symmetry exchanges, if it has them."""
        return self

    def second_order_field(
        self, base: Gaussian, fields: Sequence[TransportField], weights: np.ndarray
    ) -> TransportField | None:
        """The field that a flow by ``fields`` with these weights lacks to second order, if known.

        weights: one for every function of ``fields`` in turn.
        """
        return None

    def grids(self, fields: Sequence[TransportField]) -> list[list[float]]:
        """Numbers of ``fields`` that a fit at one size hands on to every other size."""
        return []

    @abstractmethod
    def fingerprint(self) -> Mapping[str, float]:
        """Intensive numbers that differ between substances, densities and temperatures."""

    @property
    @abstractmethod
    def log_measure(self) -> float:
        """ln of what multiplies the integral over u in the partition function."""

    @abstractmethod
    def observe(self, u: Tensor, potential: Values) -> Tensor:
        """Observables (len(observable_names), batch) of target configurations."""

    def histogram(self, u: Tensor) -> Tensor | None:
        """Counts (batch, bins) to accumulate over target configurations, if any."""
        return None

    def normalise_histogram(self, counts: Tensor) -> np.ndarray:
        """The curve of the report from mean ``counts`` (bins,) per sample."""
        return counts.numpy()

    def curves(self, counts: Tensor, base: Gaussian, seed: int) -> Mapping[str, np.ndarray]:
        """Arrays for the report made from the mean ``counts`` (chains, bins) per sample."""
        return {}

    def displaced_fraction(self, u: Tensor) -> float | None:
        """Fraction of sites that have left their place, where that has a meaning."""
        return None
