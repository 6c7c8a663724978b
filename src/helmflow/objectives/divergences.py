"""Divergences between a flow q and a target p = exp(-u)/Z: of Kullback-Leibler, of log weights."""

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, Inverse
from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential, density_work, require_energies, work
from helmflow.objectives.score_function import finite_work
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


def log_variance(flow: Density, u: ReducedPotential, x: Configs) -> Tensor:
    """Sample variance of the work over configurations from anywhere, in (kT)^2.

    ``loss = var[u(x) + log q(x)]``, zero for a perfect flow whatever density the x (n, *event)
    were drawn from; they are taken as given, so u needs no gradient. +inf counts as the highest
    finite energy. Raises ``InputError`` for fewer than two, ``EnergyError`` for NaN or when
    nothing is finite. Source: L. Richter et al., arXiv:2010.10436.
    """
    if len(x) < 2:
        raise InputError("x", "at least 2 configurations", len(x))
    x = x.detach()
    with torch.no_grad():
        potential = finite_work(require_energies(u(x), len(x)))
    return density_work(x, flow.log_prob(x), lambda _: potential).var()


def on_policy_log_variance(
    flow: Density, u: ReducedPotential, n: int, generator: torch.Generator
) -> Tensor:
    """``log_variance`` over n fresh samples of the flow itself, in (kT)^2."""
    with torch.no_grad():
        x, _ = flow.sample_and_log_prob(n, generator)
    return log_variance(flow, u, x)
