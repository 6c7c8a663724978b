"""Points of several densities together: what judges each of them by what all have seen."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.generalised_work import ReducedPotential
from helmflow.shapes import Configs, Values

EM_STEPS, LEAST_WEIGHT = 100, 0.1
"""Of the weights of a mixture: steps of expectation and maximisation, and the least of the
first part, whose tails reach everywhere."""


class Pool:
    """n points of each of several densities, with weights towards p = exp(-u)/Z.

    ``log_p`` (N,) unnormalised, ``log_q`` (n_densities, N), and by the balance heuristic
    ``log_w = log_p - ln mean_k q_k``: no density is judged by its own points alone. Source: E.
    Veach, L. J. Guibas, doi:10.1145/218380.218498.
    """

    def __init__(
        self, densities: Sequence[Density], u: ReducedPotential, n: int, generator: Generator
    ) -> None:
        with torch.no_grad():
            drawn = [q.sample_and_log_prob(n, generator)[0] for q in densities]
            self.x: Configs = torch.cat(drawn)
            self.log_p = -u(self.x)
            self.log_q = torch.stack([q.log_prob(self.x) for q in densities])
        self.log_w = self.log_p - torch.logsumexp(self.log_q, 0) + math.log(len(densities))

    @property
    def log_z(self) -> float:
        """ln Z by all points."""
        return float(torch.logsumexp(self.log_w, 0)) - math.log(len(self.log_w))

    def ess_fraction(self, log_density: Values) -> float:
        """``Z^2 / int p^2/q``: effective samples per draw of a density known at all points."""
        log_ratio = torch.where(self.log_w.isneginf(), -math.inf, self.log_p - log_density)
        second = torch.logsumexp(self.log_w + log_ratio, 0) - math.log(len(self.log_w))
        return math.exp(2.0 * self.log_z - float(second))

    def best(self) -> int:
        """The density with the largest `ess_fraction`."""
        return max(range(len(self.log_q)), key=lambda k: self.ess_fraction(self.log_q[k]))

    def log_mixture(self) -> Tensor:
        """Log weights of the mixture of the densities that is likeliest for samples of p."""
        share = torch.softmax(self.log_w, 0)
        log_weights = torch.full((len(self.log_q), 1), -math.log(len(self.log_q))).double()
        for _ in range(EM_STEPS):
            member = torch.softmax(self.log_q + log_weights, 0)
            weights = (member @ share).clamp_min(1e-12)
            weights[0] = weights[0].clamp_min(LEAST_WEIGHT)
            log_weights = (weights / weights.sum()).log()[:, None]
        return log_weights[:, 0]
