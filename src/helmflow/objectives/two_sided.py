"""Losses that use samples of both ends."""

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, Inverse
from helmflow.densities.base import Density
from helmflow.generalised_work import ReducedPotential, density_work, work
from helmflow.shapes import Configs


def two_sided(
    flow: Density,
    u: ReducedPotential,
    samples: Configs,
    n: int,
    generator: torch.Generator,
) -> Tensor:
    """Gap between the two bounds on the free energy, in kT, zero for a perfect flow.

        loss = <w>_q - <w>_p = KL(q || p) + KL(p || q),   w(x) = u(x) + log q(x)

    with n fresh samples of the flow and ``samples`` (m, *event) of the target. The loss of learned
    Bennett acceptance ratios (P. Wirnsberger et al., doi:10.1063/5.0018903).
    """
    x, log_q = flow.sample_and_log_prob(n, generator)
    forward = density_work(x, log_q, u)
    reverse = -density_work(samples, flow.log_prob(samples), u)
    return forward.mean() + reverse.mean()


def two_sided_map(
    x: Configs,
    y: Configs,
    u_a: ReducedPotential,
    u_b: ReducedPotential,
    bijector: Bijector,
) -> Tensor:
    """The same gap for a map between two states, from samples x of A and y of B, in kT.

    ``loss = <w_F>_A + <w_R>_B``, with the works of ``helmflow.generalised_work.work``.
    """
    forward = work(x, u_a, u_b, bijector)
    reverse = work(y, u_b, u_a, Inverse(bijector))
    return forward.mean() + reverse.mean()
