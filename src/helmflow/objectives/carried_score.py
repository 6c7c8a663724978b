"""Path gradients of continuous flows, with the score carried along."""

from typing import Protocol

import torch
from torch import Generator, Tensor

from helmflow.bijectors.scored_flow import ScoredFlow
from helmflow.generalised_work import require_energies
from helmflow.objectives.known_gradient import ValueAndGradient
from helmflow.shapes import Configs, Values


class ScoredDensity(Protocol):
    """A density that knows the gradient of its logarithm."""

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Configs, Values]:
        """Draws with a graph of the parameters, and their log densities."""
        ...

    def score(self, x: Configs) -> Configs:
        """Gradient of the log density."""
        ...


def carried_score_reverse_kl(
    base: ScoredDensity,
    flow: ScoredFlow,
    target: ValueAndGradient,
    n: int,
    generator: Generator,
) -> Tensor:
    """Mean work of n fresh samples, in kT, with the gradient of the path alone.

    Value and gradient are those of ``path_gradient_reverse_kl`` up to the error of the integrator,

        gradient = < (du/dx + dlog q/dx) . dx_t/dt >,

    in one pass: dlog q/dx is integrated with x. ``target`` returns the reduced potential and its
    gradient. Source: L. Vaitl et al., arXiv:2207.08219.
    """
    z, log_p = base.sample_and_log_prob(n, generator)
    with torch.no_grad():
        score = base.score(z)
    x, log_det, score = flow.forward_with_score(z, score)
    with torch.no_grad():
        u, gradient = target(x)
        force = gradient + score
        work = require_energies(u, n) + log_p - log_det
    path = (x * force).flatten(1).sum(1)
    return (path + (work - path).detach()).mean()
