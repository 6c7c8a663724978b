"""Convolutions on a periodic lattice."""

import itertools
import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from helmflow.streams import stream


@final
class CircularConvolutions(nn.Module):
    """Periodic 3 x 3 convolutions (batch, channels[0], L0, L1) -> (batch, channels[-1], L0, L1).

    The last layer starts at zero, so that what it conditions starts as the identity; other weights
    are uniform in +-1/sqrt(fan in), drawn from ``generator``. Nothing depends on the extents.
    """

    def __init__(
        self, channels: Sequence[int], *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        generator = generator or stream(0, "convolutions")
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(channels):
            layers += [_convolution(n_in, n_out, generator), nn.SiLU()]
        self.layers = nn.Sequential(*layers[:-1])
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs at every site."""
        return self.layers(x)


def _convolution(n_in: int, n_out: int, generator: torch.Generator) -> nn.Conv2d:
    layer = nn.utils.skip_init(
        nn.Conv2d, n_in, n_out, 3, padding=1, padding_mode="circular", dtype=torch.float64
    )
    bound = 1.0 / math.sqrt(9 * n_in)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer
