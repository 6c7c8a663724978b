"""A flow with an exact answer: a normal density stretched and moved to another one."""

import torch
from torch import nn

from helmflow.bijectors.base import Bijector
from helmflow.densities.flow import Flow
from helmflow.densities.normal import DiagonalNormal

MEAN = torch.tensor([0.7, -0.4, 0.1], dtype=torch.float64)
SCALE = torch.tensor([0.5, 1.5, 1.0], dtype=torch.float64)
LOG_Z = 0.5 * 3 * torch.log(torch.tensor(2 * torch.pi)).item() + SCALE.log().sum().item()


class Stretch(Bijector):
    """y = t + exp(s) x with trainable s and t, the identity at first."""

    def __init__(self, d=3):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(d, dtype=torch.float64))
        self.shift = nn.Parameter(torch.zeros(d, dtype=torch.float64))

    def forward(self, x):
        return self.shift + self.log_scale.exp() * x, self.log_scale.sum().expand(len(x))

    def inverse(self, y):
        return (y - self.shift) * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(y))


def stretched_normal():
    """The flow at the identity."""
    d = len(MEAN)
    base = DiagonalNormal(torch.zeros(d, dtype=torch.float64), torch.ones(d, dtype=torch.float64))
    return Flow(base, Stretch(d))


def perfect(flow):
    """The flow moved onto the target."""
    with torch.no_grad():
        flow.bijector.log_scale.copy_(SCALE.log())
        flow.bijector.shift.copy_(MEAN)
    return flow


def target(x):
    """-log of the normal density of MEAN and SCALE, not normalised: f = -LOG_Z."""
    return 0.5 * ((x - MEAN) / SCALE).square().sum(1)


def target_samples(n, generator):
    z = torch.randn(n, len(MEAN), generator=generator, dtype=torch.float64)
    return MEAN + SCALE * z
