"""Energies that are computed outside torch, carried through its backward pass."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd import Function

from helmflow.shapes import Configs, Values

ValueAndGradient = Callable[[Tensor], tuple[Values, Configs]]
"""Energies (batch,) and gradients +dU/dx of configurations x, without a graph."""


def differentiable_once(x: Configs, evaluate: ValueAndGradient) -> Values:
    """Energies (batch,) whose gradient is the one that ``evaluate`` returned with them.

    The forces come with the energy, so a backward pass costs nothing more. Differentiating the
    gradient raises RuntimeError: the result would be a wrong zero.
    """
    return _Bridge.apply(x, evaluate)


class _Bridge(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, evaluate: ValueAndGradient) -> Tensor:
        values, gradient = evaluate(x.detach())
        ctx.save_for_backward(x, gradient)
        return values

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        x, gradient = ctx.saved_tensors
        slope = upstream.reshape(-1, *[1] * (gradient.ndim - 1)) * gradient
        return _Constant.apply(slope, x), None


class _Constant(Function):
    """The identity on its first argument, of which no derivative can be taken."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, x: Tensor) -> Tensor:
        return slope.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        raise RuntimeError("an energy computed outside torch has no second derivatives")
