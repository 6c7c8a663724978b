"""Fully connected networks, alone or many side by side, and periodic features for them."""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
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


def side_by_side(nets: Iterable[nn.Module], inputs: Tensor) -> Tensor:
    """Outputs (batch, K, n_out) of K networks, the k-th of the first columns of inputs[:, k].

    ``inputs`` (batch, K, n); a network with fewer than n inputs ignores the other columns. Takes
    one product of matrices per layer, not K of them. All are `Mlp` with the
    same hidden layers, or `Constant`.
    """
    learned = {k: net for k, net in enumerate(nets) if isinstance(net, Mlp)}
    constant = {k: net for k, net in enumerate(nets) if isinstance(net, Constant)}
    parts = []
    if constant:
        values = torch.stack([net.value for net in constant.values()])
        parts.append(values.expand(len(inputs), -1, -1))
    if learned:
        outputs = _together(list(learned.values()), inputs[:, list(learned)])
        parts.append(outputs.transpose(0, 1))
    place = torch.tensor([*constant, *learned]).argsort()
    return torch.cat(parts, 1)[:, place]


def _together(nets: Sequence[Mlp], inputs: Tensor) -> Tensor:
    """Outputs (K, batch, n_out) of networks of the same layers."""
    x = inputs.transpose(0, 1)
    for layers in zip(*(net.layers for net in nets), strict=True):
        if isinstance(layers[0], nn.Linear):
            weights = nn.utils.rnn.pad_sequence([layer.weight.T for layer in layers], True)
            biases = torch.stack([layer.bias for layer in layers])
            x = torch.baddbmm(biases.unsqueeze(1), x[..., : weights.shape[1]], weights)
        else:
            x = layers[0](x)
    return x


def circular_features(x: Tensor, n_frequencies: int) -> Tensor:
    """cos and sin of 2 pi k x, k = 1 ... n_frequencies, of numbers on the circle [0, 1).

    x (..., d) to (..., 2 d n_frequencies), with period 1 in every component of x.
    """
    k = torch.arange(1, n_frequencies + 1, dtype=x.dtype, device=x.device)
    angle = (2.0 * math.pi) * (x.unsqueeze(-1) * k).flatten(-2)
    return torch.cat([angle.cos(), angle.sin()], -1)
