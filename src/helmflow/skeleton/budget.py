"""Energies and time that a run has spent, and the limit of the former."""

import functools
import math
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from helmflow.errors import InputError
from helmflow.results import Cost
from helmflow.shapes import Configs

P = ParamSpec("P")
R = TypeVar("R")


class BudgetError(InputError):
    """What is about to be evaluated would exceed ``max_evaluations``."""


class Budget:
    """Counts every configuration whose energy is evaluated, and processor and wall time.

    ``limit``: the most configurations; None for no limit. ``restore`` adds what earlier processes
    spent on the same run.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.evaluations = 0
        self.set_aside = 0
        self._earlier = (0.0, 0.0)
        self._start = (time.process_time(), time.time())

    @property
    def left(self) -> float:
        """Configurations that may still be evaluated; infinite without a limit.

        Without those that are ``set_aside`` for the end of the run.
        """
        if self.limit is None:
            return math.inf
        return self.limit - self.set_aside - self.evaluations

    def require(self, n: int) -> None:
        """Raise ``BudgetError`` where ``n`` more configurations would exceed the limit."""
        if n > self.left:
            needed = f"at least {self.evaluations + self.set_aside + n} to get any further"
            raise BudgetError("max_evaluations", needed, self.limit)

    def spend(self, n: int) -> None:
        """Count ``n`` configurations that are about to be evaluated.

        Raises ``BudgetError`` instead where that would exceed the limit.
        """
        self.require(n)
        self.evaluations += n

    def count(
        self, energy: Callable[Concatenate[Configs, P], R]
    ) -> Callable[Concatenate[Configs, P], R]:
        """The same function of a batch of configurations, counted before every call."""

        @functools.wraps(energy, updated=())
        def counted(x: Configs, *args: P.args, **kwargs: P.kwargs) -> R:
            self.spend(len(x))
            return energy(x, *args, **kwargs)

        return counted

    def cost(self) -> Cost:
        """Everything spent on the run so far, by all its processes."""
        cpu, wall = self._earlier
        now = (time.process_time(), time.time())
        return Cost(
            cpu + now[0] - self._start[0], wall + now[1] - self._start[1], self.evaluations
        )

    def restore(self, cost: Cost) -> None:
        """Go on from what was spent when a stage was kept; this process starts counting anew."""
        self._earlier = (cost.cpu_seconds, cost.wall_seconds)
        self._start = (time.process_time(), time.time())
        self.evaluations = cost.energy_evaluations
