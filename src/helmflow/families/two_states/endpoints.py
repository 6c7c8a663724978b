"""The two ends of a targeted calculation: states, their samples, and energies that may fail."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from helmflow.errors import EnergyError, InputError
from helmflow.generalised_work import ReducedPotential, require_energies
from helmflow.shapes import Configs, Values
from helmflow.skeleton.budget import Budget
from helmflow.thermo import ThermodynamicState

State = ThermodynamicState | ReducedPotential
"""A thermodynamic state, or just its reduced potential u(x) in kT."""


@dataclass
class CarefulPotential:
    """A reduced potential that gives +inf for configurations that cannot be evaluated.

    A configuration on which the energy raises ``EnergyError`` does not take the others along: the
    error is passed on only as long as nothing has been evaluated at all. A configuration with NaN
    or infinite coordinates has +inf whatever the energy makes of it. ``n_failed`` counts those
    with finite ones that have no energy, not even +inf.
    """

    u: ReducedPotential
    budget: Budget
    costly: bool = False
    n_good: int = 0
    n_failed: int = 0

    def __call__(self, x: Configs) -> Values:
        self.budget.spend(len(x))
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
                last = error
                self.n_failed += 1
        if last is not None and self.n_good == 0:
            raise last
        return values

    def _checked(self, x: Configs) -> Values:
        values = require_energies(self.u(x), len(x), "potential")
        self.n_good += len(x)
        possible = finite_rows(x)
        self.n_failed += int((values.isnan() & possible).sum())
        return torch.where(values.isnan() | ~possible, torch.inf, values)


def reduced_potential(state: State, budget: Budget) -> CarefulPotential:
    """u(x) of a state, counted, and +inf where it cannot be evaluated."""
    if isinstance(state, ThermodynamicState):
        return CarefulPotential(
            state.reduced_potential, budget, bool(getattr(state.energy, "costly", False))
        )
    return CarefulPotential(state, budget, bool(getattr(state, "costly", False)))


@dataclass(frozen=True)
class SampledPair:
    """Two states and samples of each, (n, ...) and (m, ...), in time order."""

    states: tuple[State, State]
    samples: tuple[Configs, Configs]

    @classmethod
    def of(cls, a: State, b: State, x_a: ArrayLike | Tensor, x_b: ArrayLike | Tensor) -> Self:
        """Raises ``InputError`` as `as_samples`, and for samples of different shapes."""
        samples = as_samples("samples_a", x_a), as_samples("samples_b", x_b)
        event, other = (tuple(x.shape[1:]) for x in samples)
        if event != other:
            wanted = f"shape (n, {', '.join(map(str, event))})"
            raise InputError("samples_b", wanted, tuple(samples[1].shape))
        return cls((a, b), samples)

    def potentials(self, budget: Budget) -> tuple[CarefulPotential, CarefulPotential]:
        """u_A(x) and u_B(x)."""
        first, last = (reduced_potential(state, budget) for state in self.states)
        return first, last


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
    bad = int((~finite_rows(x)).sum())
    if len(x) - bad < 4:
        raise InputError(field_name, "finite coordinates", f"{bad} configurations with NaN or inf")
    return x.detach().to(torch.float64)


def finite_rows(x: Configs) -> Tensor:
    """Which configurations (n,) have no coordinate that is NaN or infinite."""
    return torch.isfinite(x).flatten(1).all(1)


@dataclass(frozen=True)
class End:
    """Samples of one state, its reduced potential, and their energies in it and the other, kT.

    ``times``: how often each sample is there.
    """

    x: Configs
    u: ReducedPotential
    u_own: Values
    u_other: Values
    n_dropped: int = 0
    times: float = 1.0

    @classmethod
    def evaluate(cls, name: str, x: Configs, u: ReducedPotential, other: ReducedPotential) -> Self:
        """Samples that have no finite energy in their own state are dropped, and counted.

        Raises ``InputError`` when fewer than 4 are left.
        """
        u_own = u(x).detach().to(torch.float64)
        finite = torch.isfinite(u_own)
        n_finite = int(finite.sum())
        if n_finite < 4:
            raise InputError(
                f"samples_{name}", f"finite energies in state {name}", f"{n_finite} of them"
            )
        u_other = other(x[finite]).detach().to(torch.float64)
        return cls(x[finite], u, u_own[finite], u_other, len(x) - n_finite)

    @property
    def work(self) -> np.ndarray:
        """Work (n,) to the other state without a map."""
        return (self.u_other - self.u_own).numpy()

    def since(self, start: int) -> Self:
        """The samples from this one on."""
        cut = slice(start, None)
        return replace(self, x=self.x[cut], u_own=self.u_own[cut], u_other=self.u_other[cut])

    def part(self, start: float, stop: float) -> Self:
        """The samples between two fractions of the series."""
        cut = slice(round(start * len(self.x)), round(stop * len(self.x)))
        return replace(
            self, x=self.x[cut], u_own=self.u_own[cut], u_other=self.u_other[cut], n_dropped=0
        )
