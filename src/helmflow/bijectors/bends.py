"""Smooth monotone maps of the line with straight ends."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.elementwise import Elementwise

STEEPEST = 0.9
"""Largest |alpha|: the slopes of one bend lie between 1 - STEEPEST and 1 + STEEPEST."""


@final
class Bends(Elementwise):
    """A line that is bent at several places, one after the other.

        x <- x + alpha_k (h(x - c_k) - h(c_k)),   h(x) = sqrt(1 + x^2),   alpha_k = 0.9 tanh a_k

    with one parameter a_k for each of the fixed ``centres`` c_k. A bend at 0 gives the quadratic
    term of an anharmonic displacement, opposite bends at -1 and 1 the cubic one. Infinitely
    smooth, with a closed inverse; it grows no faster than linearly, so that compositions of many
    stay tame. It maps 0 to 0.
    """

    def __init__(self, centres: Sequence[float] = (-1.0, 0.0, 1.0)) -> None:
        self.centres = tuple(centres)
        self.n_parameters = len(self.centres)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = torch.zeros_like(x)
        for c, a in zip(self.centres, parameters.unbind(-1), strict=True):
            alpha = STEEPEST * a.tanh()
            root = (1.0 + (x - c).square()).sqrt()
            log_slope = log_slope + torch.log1p(alpha * (x - c) / root)
            x = x + alpha * (root - (1.0 + c * c) ** 0.5)
        return x, log_slope

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = torch.zeros_like(y)
        for c, a in zip(reversed(self.centres), reversed(parameters.unbind(-1)), strict=True):
            alpha = STEEPEST * a.tanh()
            s = y - c + alpha * (1.0 + c * c) ** 0.5
            # z + alpha sqrt(1 + z^2) = s for z = x - c
            rest = 1.0 - alpha.square()
            z = (s - alpha * (s.square() + rest).sqrt()) / rest
            log_slope = log_slope - torch.log1p(alpha * z / (1.0 + z.square()).sqrt())
            y = z + c
        return y, log_slope
