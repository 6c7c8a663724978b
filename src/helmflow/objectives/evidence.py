"""Lower bounds of the log density of positions under flows of positions and momenta."""

import torch

from helmflow.bijectors.hamiltonian import GaussianEncoder
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
