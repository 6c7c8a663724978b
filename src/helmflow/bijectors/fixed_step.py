"""Continuous flows along a path, integrated with a fixed number of steps."""

import copy
from abc import abstractmethod
from typing import Self

from helmflow.bijectors.base import Bijector
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


class FixedStepFlow(Bijector):
    """The flow of dx/dt = v_t(x) from t = 0 to 1 by the fourth-order Runge-Kutta rule.

    log|det| is the integral of div v_t along the way, by the same rule. Both are off by O(h^4),
    and the inverse undoes the forward map to O(h^4) only: double ``n_steps`` to see how much.
    """

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = _at_least_one(n_steps)

    @abstractmethod
    def velocity(self, x: Configs, t: float) -> tuple[Configs, Values]:
        """v_t(x), shaped like x, and its divergence (batch,)."""

    def with_steps(self, n_steps: int) -> Self:
        """The same flow with the same parameters, integrated with another number of steps."""
        other = copy.copy(self)
        # tables of its own: what is set on one flow must not appear on the other
        for table in ("_parameters", "_buffers", "_modules"):
            vars(other)[table] = vars(self)[table].copy()
        other.n_steps = _at_least_one(n_steps)
        return other

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        return self._integrate(x, 0.0, 1.0 / self.n_steps)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        return self._integrate(y, 1.0, -1.0 / self.n_steps)

    def _integrate(self, x: Configs, t: float, h: float) -> tuple[Configs, Values]:
        log_det = x.new_zeros(len(x))
        for _ in range(self.n_steps):
            v1, d1 = self.velocity(x, t)
            v2, d2 = self.velocity(x + 0.5 * h * v1, t + 0.5 * h)
            v3, d3 = self.velocity(x + 0.5 * h * v2, t + 0.5 * h)
            v4, d4 = self.velocity(x + h * v3, t + h)
            x = x + (h / 6.0) * (v1 + 2.0 * v2 + 2.0 * v3 + v4)
            log_det = log_det + (h / 6.0) * (d1 + 2.0 * d2 + 2.0 * d3 + d4)
            t += h
        return x, log_det


def _at_least_one(n_steps: int) -> int:
    if n_steps < 1:
        raise InputError("n_steps", "at least 1", n_steps)
    return n_steps
