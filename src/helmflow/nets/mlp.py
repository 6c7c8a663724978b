"""Fully connected networks."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from helmflow.streams import stream


@final
class Mlp(nn.Module):
    """A fully connected network (..., n_in) -> (..., n_out).

    With ``zero_last`` the last layer starts at zero, so that what it conditions starts as the
    identity. Weights are uniform in +-1/sqrt(fan in), drawn from ``generator`` (the same every
    time if none is given); the numbers are float64 unless ``dtype`` says otherwise.
    """

    def __init__(
        self,
        n_in: int,
        hidden: Sequence[int],
        n_out: int,
        *,
        zero_last: bool = True,
        activation: Callable[[], nn.Module] = nn.SiLU,
        dtype: torch.dtype = torch.float64,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        generator = generator or stream(0, "network")
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((n_in, *hidden, n_out)):
            layers += [_linear(fan_in, fan_out, dtype, generator), activation()]
        self.layers = nn.Sequential(*layers[:-1])
        if zero_last:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (..., n_out) for inputs (..., n_in)."""
        return self.layers(x)


@final
class Constant(nn.Module):
    """Parameters that depend on nothing: learned numbers (n_out,), zero at first."""

    def __init__(self, n_out: int, *, learned: bool = True) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(n_out, dtype=torch.float64), requires_grad=learned)

    def forward(self, x: Tensor) -> Tensor:
        """The same for every row of x (..., anything)."""
        return self.value.expand(*x.shape[:-1], -1)


def conditioner(
    n_in: int, hidden: Sequence[int], n_out: int, generator: torch.Generator
) -> nn.Module:
    """What turns what is known into parameters: a network of tanh, or constants if n_in is 0."""
    if n_in == 0:
        return Constant(n_out)
    return Mlp(n_in, hidden, n_out, activation=nn.Tanh, generator=generator)


def _linear(
    fan_in: int, fan_out: int, dtype: torch.dtype, generator: torch.Generator
) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=dtype)
    bound = 1.0 / math.sqrt(fan_in)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
