"""What simulations of several states leave for an estimator: potentials and slopes of samples."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from helmflow.errors import InputError

Array = np.ndarray

FEWEST = 4
"""Samples of a state that has any."""


@dataclass(frozen=True, eq=False)
class Slopes:
    """dU/dlambda (n_k, L) of the samples of state k, kT, at its lambdas (K, L)."""

    lambdas: Array
    values: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class SampledPotentials:
    """Reduced potentials (n_k, K) in kT of the samples of each of K states in all of them.

    ``labels`` name the states, in their order. A state without samples has n_k = 0; NaN stands for
    a potential that nobody computed, +inf for an impossible configuration. An offset that is
    common to all states of one sample means nothing. ``temperature`` in kelvin, if known;
    ``slopes`` where the program wrote them.
    """

    potentials: tuple[Array, ...]
    labels: tuple[str, ...]
    temperature: float | None = None
    slopes: Slopes | None = None

    def checked(self, field: str) -> Self:
        """The same, or an InputError that says what is wrong with it."""
        k = len(self.labels)
        if k < 2 or len(self.potentials) != k:
            got = f"{k} states, samples of {len(self.potentials)}"
            raise InputError(field, "samples of two or more states", got)
        for label, table in zip(self.labels, self.potentials, strict=True):
            if table.ndim != 2 or table.shape[1] != k:
                expected = f"potentials of each sample in all of {k} states"
                raise InputError(field, expected, f"shape {table.shape} for state {label}")
            if 0 < len(table) < FEWEST:
                expected = f"at least {FEWEST} samples of a state, or none"
                raise InputError(field, expected, f"{len(table)} of state {label}")
            if np.isneginf(table).any():
                raise InputError(field, "potentials above -inf", f"-inf in state {label}")
        if sum(len(table) > 0 for table in self.potentials) < 2:
            sampled = [n for n, t in zip(self.labels, self.potentials, strict=True) if len(t)]
            got = f"only of {sampled[0]}" if sampled else "none"
            raise InputError(field, "samples of at least two states", got)
        own = [table[:, j] for j, table in enumerate(self.potentials)]
        return replace(
            self,
            potentials=tuple(
                np.asarray(table[np.isfinite(u)], dtype=np.float64)
                for table, u in zip(self.potentials, own, strict=True)
            ),
        )

    @property
    def n_lost(self) -> int:
        """Samples without a finite potential in their own state."""
        return sum(int((~np.isfinite(t[:, j])).sum()) for j, t in enumerate(self.potentials))

    @property
    def sampled(self) -> list[int]:
        """Indices of states that have samples."""
        return [k for k, table in enumerate(self.potentials) if len(table)]
