"""How many steps a flow must be integrated with: one measure of the bias of too few."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Generator

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.fixed_step import FixedStepFlow
from helmflow.densities.base import Density
from helmflow.generalised_work import ReducedPotential
from helmflow.shapes import Values

STEP_BIAS = 0.1
"""Largest bias of the integrator, in errors asked for."""

Works = Callable[[Bijector], Values]
"""The works of a map on a fixed set of configurations."""

AnyFlow = TypeVar("AnyFlow", bound=FixedStepFlow)


def works_on(base: Density, u: ReducedPotential, n: int, generator: Generator) -> Works:
    """Works ``u(f(z)) + log q(f(z))`` of maps f on n draws z of a base."""
    with torch.no_grad():
        z, log_base = base.sample_and_log_prob(n, generator)

    @torch.no_grad()
    def works(bijector: Bijector) -> Values:
        x, log_det = bijector.forward(z)
        return u(x) + log_base - log_det

    return works


def step_bias(flow: FixedStepFlow, works: Works) -> float:
    """Mean size of the change of the work when the number of steps is doubled.

    An upper bound of the bias of ln Z: signed changes could cancel by chance.
    """
    return (works(flow) - works(flow.with_steps(2 * flow.n_steps))).abs().mean().item()


def enough_steps(flow: AnyFlow, works: Works, candidates: Sequence[int], goal: float) -> AnyFlow:
    """The flow with the first number of steps whose bias is well below the error ``goal``.

    The last of ``candidates`` where none is.
    """
    for n_steps in candidates:
        flow = flow.with_steps(n_steps)
        if step_bias(flow, works) <= STEP_BIAS * goal:
            break
    return flow
