"""Fully connected networks."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast, final

import torch
from torch import Tensor, nn

from helmflow.errors import InputError
from helmflow.streams import stream


@final
class Mlp(nn.Module):
    """A fully connected network (..., sizes[0]) -> (..., sizes[-1]) with hidden layers between.

    With ``zero_last`` the last layer starts at zero, so that what it conditions starts as the
    identity. Weights are uniform in +-1/sqrt(fan in), drawn from ``generator`` (the same every
    time if none is given); the numbers are float64 unless ``dtype`` says otherwise.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        zero_last: bool = True,
        activation: Callable[[], nn.Module] = nn.SiLU,
        dtype: torch.dtype = torch.float64,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        generator = generator or stream(0, "network")
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            layers += [_linear(fan_in, fan_out, dtype, generator), activation()]
        self.layers = nn.Sequential(*layers[:-1])
        if zero_last:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs for inputs x."""
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


@dataclass(frozen=True)
class Conditioner:
    """How the networks of a flow are made that turn what is known into parameters.

    Each has layers of ``hidden`` units and sees ``n_given`` numbers from outside of the flow
    beside what it is made for; constants take the place of a network that sees nothing. Weights
    are drawn from ``generator``, one network after the other.
    """

    hidden: Sequence[int]
    generator: torch.Generator = field(default_factory=lambda: stream(0, "conditioner"))
    n_given: int = 0
    activation: type[nn.Module] = nn.Tanh

    def network(self, n_in: int, n_out: int) -> nn.Module:
        """From n_in numbers and the given ones to n_out parameters, zero at first."""
        n_in = n_in + self.n_given
        if n_in == 0:
            return Constant(n_out)
        sizes = (n_in, *self.hidden, n_out)
        return Mlp(sizes, activation=self.activation, generator=self.generator)

    def require_given(self, given: Tensor | None, like: Tensor) -> Tensor:
        """The outside numbers (batch, n_given); raises InputError for another shape."""
        if given is None and self.n_given == 0:
            return like.new_zeros(len(like), 0)
        if given is None or given.shape != (len(like), self.n_given):
            got = "nothing" if given is None else tuple(given.shape)
            raise InputError("given", f"shape ({len(like)}, {self.n_given})", got)
        return given


def _linear(
    fan_in: int, fan_out: int, dtype: torch.dtype, generator: torch.Generator
) -> nn.Linear:
    layer = cast(nn.Linear, nn.utils.skip_init(nn.Linear, fan_in, fan_out, dtype=dtype))
    bound = 1.0 / math.sqrt(fan_in)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
