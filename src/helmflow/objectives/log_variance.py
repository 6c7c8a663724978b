"""Variance of the log weights."""

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential, density_work, require_energies
from helmflow.objectives.score_function import finite_work
from helmflow.shapes import Configs


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
