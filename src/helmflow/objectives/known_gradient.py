"""Reduced potentials whose gradient comes from a compiled kernel or from another program."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helmflow.generalised_work import ReducedPotential
from helmflow.shapes import Configs, Values

ValueAndGradient = Callable[[Configs], tuple[Values, Configs]]
"""Reduced potential (batch,) and its gradient (batch, *event), without a graph."""


class _KnownGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, target: ValueAndGradient) -> Tensor:
        value, gradient = target(x.detach())
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        weights = upstream.view(-1, *[1] * (gradient.ndim - 1))
        # A sample of no weight stays without influence even where its gradient is infinite.
        return torch.where(weights == 0, 0.0, weights * gradient), None


def with_known_gradient(target: ValueAndGradient) -> ReducedPotential:
    """A potential that autograd can differentiate once, from one that returns its own gradient.

    ``du = gradient . dx``; for compiled kernels it is up to a hundred times cheaper than taping
    the energy.
    """

    def potential(x: Configs) -> Values:
        return _KnownGradient.apply(x, target)

    return potential
