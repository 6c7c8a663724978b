"""Continuous flows integrated with a fixed number of steps, with or without their scores."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Self

from torch import Tensor

from helmflow.bijectors.base import TwoWay
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


class FixedStepFlow(TwoWay):
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

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        start = x, x.new_zeros(len(x))
        x, log_det = runge_kutta(lambda x, _, t: self.velocity(x, t), start, self.n_steps, sign)
        return x, log_det


def runge_kutta(
    rates: Callable[..., Sequence[Tensor]], state: Sequence[Tensor], n_steps: int, sign: int = 1
) -> Sequence[Tensor]:
    """Tensors that change at ``rates(*state, t)``, from t = 0 to 1, or back if sign is -1."""
    t, h = (0.0, 1.0 / n_steps) if sign > 0 else (1.0, -1.0 / n_steps)

    def ahead(rate: Iterable[Tensor], h: float) -> list[Tensor]:
        return [s + h * r for s, r in zip(state, rate, strict=True)]

    for _ in range(n_steps):
        k1 = rates(*state, t)
        k2 = rates(*ahead(k1, 0.5 * h), t + 0.5 * h)
        k3 = rates(*ahead(k2, 0.5 * h), t + 0.5 * h)
        k4 = rates(*ahead(k3, h), t + h)
        mean = [(a + 2.0 * (b + c) + d) / 6.0 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]
        state, t = ahead(mean, h), t + h
    return state


def _at_least_one(n_steps: int) -> int:
    if n_steps < 1:
        raise InputError("n_steps", "at least 1", n_steps)
    return n_steps


class Rates(NamedTuple):
    """Velocity v (batch, n) with a graph; its divergence (batch,) and dg/dt without one."""

    velocity: Configs
    divergence: Values
    score: Configs


class ScoredFlow(FixedStepFlow):
    """The flow of dx/dt = v_t(x), with the score g = grad log q of the transported density.

        dg/dt = -(dv/dx)^T g - grad div v

    Following g costs about as much as following x, and gives the path gradient of a divergence
    without a pass through the inverse map. Source: L. Vaitl et al., arXiv:2207.08219.
    """

    @abstractmethod
    def rates(self, x: Configs, score: Configs, t: float) -> Rates:
        """v_t(x), its divergence and the rate of the score, at x (batch, n)."""

    def forward_with_score(self, x: Configs, score: Configs) -> tuple[Configs, Values, Configs]:
        """``y``, with a graph if x or parameters have one; log|det| and the score at y without.

        ``score`` is that of the density of x.
        """
        start = x, x.new_zeros(len(x)), score
        y, log_det, score = runge_kutta(
            lambda x, _, score, t: self.rates(x, score, t), start, self.n_steps
        )
        return y, log_det, score
