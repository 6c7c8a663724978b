"""Kullback-Leibler divergences between a flow q and a target p = exp(-u)/Z, up to ln Z."""

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.generalised_work import ReducedPotential, density_work
from helmflow.shapes import Configs


def reverse_kl(flow: Density, u: ReducedPotential, n: int, generator: torch.Generator) -> Tensor:
    """Mean work of n fresh samples of the flow, in kT: an upper bound of f = -ln Z.

    ``loss = <u(x) + log q(x)>_q = f + KL(q || p)``. Needs the target's gradient and no samples of
    it. Seeks modes: a basin that q does not reach is never noticed. Source: D. J. Rezende,
    S. Mohamed, arXiv:1505.05770.
    """
    x, log_q = flow.sample_and_log_prob(n, generator)
    return density_work(x, log_q, u).mean()


def forward_kl(flow: Density, samples: Configs) -> Tensor:
    """Mean negative log density of samples of the target (n, *event), in nats.

    ``loss = -<log q(x)>_p = KL(p || q) + entropy of p``; maximum likelihood. Covers every mode
    that the samples cover.
    """
    return -flow.log_prob(samples).mean()
