"""What a training run does: its plan and learning rate, its reports, what it returns."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import final

from helmflow.errors import ConvergenceError, InputError


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


@dataclass(frozen=True)
class TrainingPlan:
    """Settings of ``helmflow.training.stochastic.train``.

    steps: updates of the parameters, by Adam.
    batch: samples per step, over all ranks.
    learning_rate: in front of ``schedule``.
    clip_norm: longest gradient taken as it stands, in kT; longer ones are shortened.
    ema_decay: of the running average of the weights that is returned; None returns the last ones.
    micro_batch: samples whose graph is in memory at a time; None: a whole share of a rank.
        Halved when memory runs out.
    checkpoint_every, validate_every: steps.
    patience: steps all worse than the beginning after which training has diverged.
    max_skipped: steps in a row that were not finite after which training has diverged.
    """

    steps: int
    batch: int
    learning_rate: float = 1e-3
    schedule: Schedule = field(default_factory=Cosine)
    clip_norm: float | None = 1e3
    ema_decay: float | None = None
    micro_batch: int | None = None
    checkpoint_every: int = 100
    validate_every: int = 100
    patience: int = 200
    max_skipped: int = 20

    def __post_init__(self) -> None:
        counts = ("batch", "checkpoint_every", "validate_every", "patience", "max_skipped")
        for name in counts:
            if getattr(self, name) < 1:
                raise InputError(name, "a number, at least 1", getattr(self, name))
        if self.steps < 0:
            raise InputError("steps", "a number of steps, zero or more", self.steps)
        if self.micro_batch is not None and self.micro_batch < 1:
            raise InputError("micro_batch", "at least 1 sample", self.micro_batch)
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError("learning_rate", "a positive number", self.learning_rate)
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError("clip_norm", "a positive number", self.clip_norm)
        if self.ema_decay is not None and not 0.0 <= self.ema_decay < 1.0:
            raise InputError("ema_decay", "a number from 0 to below 1", self.ema_decay)

    def rate(self, step: int) -> float:
        """The learning rate of one step."""
        return self.learning_rate * self.schedule.factor(step, self.steps)


@dataclass(frozen=True)
class StepReport:
    """One step: loss in kT, norm of the gradient before clipping, and how training stands.

    ``step`` counts from 1; ``skipped`` counts all steps so far that were not finite;
    ``validation`` is what the caller's ``validate`` returned at this step, empty at most steps.
    """

    step: int
    steps: int
    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: int
    micro_batch: int
    validation: Mapping[str, float]

    def as_json(self) -> dict[str, float | int | None]:
        """A flat table for ``metrics.jsonl``, None where a number is not finite."""
        table = asdict(self)
        table |= table.pop("validation")
        return {
            name: value if isinstance(value, int) or math.isfinite(value) else None
            for name, value in table.items()
        }


@dataclass(frozen=True)
class TrainingOutcome:
    """How a training run ended: the steps done, those skipped, and the losses near the end.

    ``final_loss`` is the mean over the last (up to 20) finite losses, in kT; NaN without steps.
    ``resumed_at`` is the step of the checkpoint the run went on from, 0 for a fresh run.
    """

    steps: int
    skipped: int
    final_loss: float
    micro_batch: int
    resumed_at: int


class DivergenceError(ConvergenceError):
    """Training that went wrong; the message says what to change and what was kept.

    ``step`` is where it stopped.
    """

    def __init__(self, message: str, last: float, step: int) -> None:
        super().__init__(message, last)
        self.step = step
