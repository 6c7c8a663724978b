"""Flows of positions and momenta: bounds of the density of positions, and soft symmetry."""

import torch
from torch import Tensor

from helmflow.bijectors.hamiltonian import (
    GaussianEncoder,
    HamiltonianFlow,
    ScalarField,
    poisson_bracket,
)
from helmflow.densities.base import Density
from helmflow.shapes import Configs, Values


def evidence_bound(
    flow: Density, encoder: GaussianEncoder, q: Configs, generator: torch.Generator
) -> Values:
    """One-sample estimate (batch,) of ``<log flow(q, p) - log f(p | q)>_f <= log density of q``.

    The momenta p are drawn from the encoder f; equal to the log density where f is the flow's own
    conditional. Minus its mean is the loss of maximum likelihood. Source: P. Toth et al.,
    arXiv:1909.13789.
    """
    p, log_f = encoder.sample_and_log_prob(q, generator)
    return flow.log_prob(torch.cat((q, p), -1)) - log_f


def bracket_penalty(flow: HamiltonianFlow, symmetry: ScalarField, x: Configs) -> Tensor:
    """Mean square of the Poisson bracket ``{g, H}`` over points x = (q, p) of phase space.

    Zero if the flow commutes with the symmetry that g generates (``q_1 p_2 - q_2 p_1``: turns of
    the plane; ``sum p``: shifts). Times a multiplier, an addition to any loss: the soft
    alternative to a potential of invariants. Source: D. J. Rezende et al., arXiv:1909.13739.
    """
    return poisson_bracket(symmetry, flow.hamiltonian, x).square().mean()
