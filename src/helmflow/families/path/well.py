"""One of two wells that the reversal of a field exchanges, and the exact weight of both."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from helmflow.shapes import Values


class Well(NamedTuple):
    """A Gaussian's mean field, and how sharply exp(-S) is divided between it and its mirror image.

    For every action with S(-phi) = S(phi), every ``slope`` a, and M = sum of phi over the sites,

        Z = int exp(-S) = int exp(-S) 2 / (1 + exp(-a M)),

    because the two parts of 1 = 1/(1 + exp(-a M)) + 1/(1 + exp(a M)) contribute the same. The last
    integrand has one well where exp(-S) has two, so a Gaussian about ``centre`` covers it, and
    averages of even functions of phi are those under exp(-S). Slope 0 divides nothing. For every
    other action, too, once it is made ``even``,

        S -> -ln [(exp(-S(phi)) + exp(-S(-phi))) / 2],

    which has the same Z and the same averages of even functions.
    """

    centre: float = 0.0
    slope: float = 0.0
    even: bool = False

    def field(self, u: Tensor) -> Tensor:
        """phi of u (batch, V)."""
        return u + self.centre if self.centre else u

    def half(self, phi: Tensor) -> tuple[Values, Tensor]:
        """-ln[2 / (1 + exp(-a M))] (batch,) and its gradient (batch, 1), the same at all sites."""
        if not self.slope:
            return phi.new_zeros(len(phi)), phi.new_zeros(len(phi), 1)
        x = -self.slope * phi.sum(1)
        value = torch.nn.functional.softplus(x) - math.log(2.0)
        return value, -self.slope * torch.sigmoid(x)[:, None]


WHOLE = Well()
