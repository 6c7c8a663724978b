"""The two ends of a targeted calculation: states, their samples, and energies that may fail."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from helmflow.errors import EnergyError, InputError
from helmflow.generalised_work import ReducedPotential
from helmflow.shapes import Configs, Values
from helmflow.thermo import ThermodynamicState

State = ThermodynamicState | ReducedPotential
"""A thermodynamic state, or just its reduced potential u(x) in kT."""


@dataclass
class CarefulPotential:
    """A reduced potential that counts, and gives +inf for configurations that cannot be evaluated.

    A configuration on which the energy raises ``EnergyError`` does not take the others along: the
    error is passed on only as long as nothing has been evaluated at all. A configuration with NaN
    or infinite coordinates has +inf whatever the energy makes of it.
    """

    u: ReducedPotential
    n_evaluations: int = 0
    n_failures: int = field(default=0)
    n_good: int = 0

    def __call__(self, x: Configs) -> Values:
        self.n_evaluations += len(x)
        try:
            return self._checked(x)
        except EnergyError:
            return self._one_by_one(x)

    def _one_by_one(self, x: Configs) -> Values:
        values, last = torch.full((len(x),), torch.inf, dtype=torch.float64), None
        for k, row in enumerate(x):
            try:
                values[k] = self._checked(row[None])[0]
            except EnergyError as error:
                self.n_failures += 1
                last = error
        if last is not None and self.n_good == 0:
            raise last
        return values

    def _checked(self, x: Configs) -> Values:
        values = self.u(x)
        self.n_good += len(x)
        lost = values.isnan() | ~_finite_rows(x)
        return torch.where(lost, torch.inf, values)


def reduced_potential(state: State) -> ReducedPotential:
    """u(x) of a state."""
    return state.reduced_potential if isinstance(state, ThermodynamicState) else state


def as_samples(field_name: str, samples: ArrayLike | Tensor) -> Configs:
    """Samples (n, *event) as float64; ``InputError`` for fewer than 4 finite or the wrong kind.

    Those with NaN or infinite coordinates stay: they have no finite energy, and are left out and
    counted for that.
    """
    try:
        x = torch.as_tensor(np.asarray(samples) if not isinstance(samples, Tensor) else samples)
    except (TypeError, ValueError) as error:
        raise InputError(field_name, "an array of configurations", type(samples).__name__) from (
            error
        )
    if x.ndim < 2 or len(x) < 4:
        raise InputError(field_name, "at least 4 configurations (n, ...)", tuple(x.shape))
    bad = int((~_finite_rows(x)).sum())
    if len(x) - bad < 4:
        raise InputError(field_name, "finite coordinates", f"{bad} configurations with NaN or inf")
    return x.detach().to(torch.float64)


def _finite_rows(x: Configs) -> Tensor:
    return torch.isfinite(x).flatten(1).all(1)


@dataclass(frozen=True)
class End:
    """Samples of one state, and their reduced potentials in it and in the other state, kT."""

    x: Configs
    own: Values
    other: Values
    n_dropped: int

    @classmethod
    def evaluate(
        cls, name: str, x: Configs, own: Callable[[Configs], Values], other: ReducedPotential
    ) -> "End":
        """Samples that have no finite energy in their own state are dropped, and counted.

        Raises ``InputError`` when fewer than 4 are left.
        """
        here = own(x).detach().to(torch.float64)
        kept = torch.isfinite(here)
        if int(kept.sum()) < 4:
            raise InputError(
                f"samples_{name}", f"finite energies in state {name}", f"{int(kept.sum())} of them"
            )
        x, here = x[kept], here[kept]
        return cls(x, here, other(x).detach().to(torch.float64), int((~kept).sum()))

    @property
    def work(self) -> np.ndarray:
        """Work (n,) to the other state without a map."""
        return (self.other - self.own).numpy()

    def part(self, start: float, stop: float) -> "End":
        """The samples between two fractions of the series."""
        cut = slice(round(start * len(self.x)), round(stop * len(self.x)))
        return End(self.x[cut], self.own[cut], self.other[cut], 0)
