"""How the learning rate changes over a training run."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from helmflow.errors import InputError


class Schedule(ABC):
    """A factor on the learning rate that depends on the step and on the number of steps."""

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """What multiplies the learning rate at ``step`` = 0, 1, ..., ``steps`` - 1."""


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """A linear rise over ``warm_up`` steps, then half a cosine from 1 down to ``floor``."""

    warm_up: int = 0
    floor: float = 0.01

    def __post_init__(self) -> None:
        _require_warm_up(self.warm_up)
        if not 0.0 <= self.floor <= 1.0:
            raise InputError("floor", "a number from 0 to 1", self.floor)

    def factor(self, step: int, steps: int) -> float:
        """(step + 1)/warm_up, then floor + (1 - floor)(1 + cos(pi t))/2 with t from 0 to 1."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        t = (step - self.warm_up) / max(steps - self.warm_up, 1)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * t))


@final
@dataclass(frozen=True)
class Drops(Schedule):
    """A linear rise over ``warm_up`` steps, then a constant, times ``ratio`` at every ``at``."""

    at: tuple[int, ...] = ()
    ratio: float = 0.1
    warm_up: int = 0

    def __post_init__(self) -> None:
        _require_warm_up(self.warm_up)
        if not 0.0 < self.ratio <= 1.0:
            raise InputError("ratio", "a number above 0 and up to 1", self.ratio)

    def factor(self, step: int, steps: int) -> float:
        """``ratio`` to the number of drops passed, times the rise."""
        rise = min(1.0, (step + 1) / self.warm_up) if self.warm_up else 1.0
        return rise * self.ratio ** sum(step >= drop for drop in self.at)


def _require_warm_up(warm_up: int) -> None:
    if warm_up < 0:
        raise InputError("warm_up", "a number of steps, zero or more", warm_up)
