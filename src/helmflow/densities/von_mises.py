"""Random angles with the density exp(kappa cos x)."""

import math

import torch
from torch import Generator, Tensor

NEARLY_UNIFORM = 1e-4
"""Concentrations below are raised to this: ln of the density changes by less than 1e-4."""


def draw_von_mises(concentration: Tensor, generator: Generator) -> Tensor:
    """One angle in [-pi, pi] for every concentration kappa >= 0, density exp(kappa cos x).

    Exact rejection from a wrapped Cauchy envelope; about 1.5 proposals per angle.
    Source: D. J. Best, N. I. Fisher, doi:10.2307/2346732.
    """
    shape = concentration.shape
    kappa = concentration.detach().flatten().clamp_min(NEARLY_UNIFORM)
    tau = 1.0 + (1.0 + 4.0 * kappa.square()).sqrt()
    rho = (tau - (2.0 * tau).sqrt()) / (2.0 * kappa)
    r = (1.0 + rho.square()) / (2.0 * rho)
    angles = torch.zeros_like(kappa)
    left = torch.arange(len(kappa))
    while len(left):
        u = torch.rand(3, len(left), generator=generator, dtype=torch.float64)
        z = torch.cos(math.pi * u[0])
        f = (1.0 + r[left] * z) / (r[left] + z)
        excess = kappa[left] * (r[left] - f)
        # below 1e-300 the logarithm would be infinite
        taken = (excess / u[1].clamp_min(1e-300)).log() + 1.0 >= excess
        sign = torch.where(u[2] < 0.5, -1.0, 1.0)
        angles[left[taken]] = (sign * torch.acos(f.clamp(-1.0, 1.0)))[taken]
        left = left[~taken]
    return angles.reshape(shape)
