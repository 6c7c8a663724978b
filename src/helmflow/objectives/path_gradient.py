"""Reverse Kullback-Leibler divergence without the noise of the score, by two ways."""

from typing import Protocol

import torch
from torch import Generator, Tensor

from helmflow.bijectors.fixed_step import ScoredFlow
from helmflow.densities.base import Density
from helmflow.generalised_work import ReducedPotential, require_energies
from helmflow.objectives.known_gradient import ValueAndGradient
from helmflow.shapes import Configs, Values


def path_gradient_reverse_kl(
    flow: Density, u: ReducedPotential, n: int, generator: torch.Generator
) -> Tensor:
    """Mean work of n fresh samples, in kT, with the gradient of the path alone.

    The gradient of ``<u(x_t) + log q_t(x_t)>`` by the parameters t has a part through the samples
    x_t and a part ``<d log q_t / dt>``, whose mean is zero and whose noise is left out here:

        gradient = < (du/dx + dlog q/dx) . dx_t/dt >

    It vanishes sample by sample where q = p. Costs one pass through the inverse map more than
    ``reverse_kl``; the value is the same. Source: G. Roeder et al., arXiv:1703.09194;
    L. Vaitl et al., arXiv:2206.09016.
    """
    x, log_q = flow.sample_and_log_prob(n, generator)
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        (force,) = torch.autograd.grad(flow.log_prob(leaf).sum(), leaf)
    energy = require_energies(u(x), n)
    path = (x * force).flatten(1).sum(1)
    # The value of the work, the derivative of the path.
    return (energy + path + (log_q - path).detach()).mean()


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
