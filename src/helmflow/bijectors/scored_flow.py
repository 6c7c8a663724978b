"""Continuous flows that carry the gradient of the log density along."""

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor

from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.shapes import Configs, Values


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
        t, h = 0.0, 1.0 / self.n_steps
        log_det = x.new_zeros(len(x))
        for _ in range(self.n_steps):
            k1 = self.rates(x, score, t)
            k2 = self.rates(*_ahead(x, score, k1, 0.5 * h), t + 0.5 * h)
            k3 = self.rates(*_ahead(x, score, k2, 0.5 * h), t + 0.5 * h)
            k4 = self.rates(*_ahead(x, score, k3, h), t + h)
            mean = [
                (a + 2.0 * (b + c) + d) / 6.0 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)
            ]
            x, log_det, score = x + h * mean[0], log_det + h * mean[1], score + h * mean[2]
            t += h
        return x, log_det, score


def _ahead(x: Tensor, score: Tensor, rates: Rates, h: float) -> tuple[Tensor, Tensor]:
    return x + h * rates.velocity, score + h * rates.score
