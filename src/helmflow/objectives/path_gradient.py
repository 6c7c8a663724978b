"""Reverse Kullback-Leibler divergence without the noise of the score."""

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.generalised_work import ReducedPotential, require_energies


def path_gradient_reverse_kl(
    flow: Density, u: ReducedPotential, n: int, generator: torch.Generator
) -> Tensor:
    """Mean work of n fresh samples, in kT, with the gradient of the path alone.

    The gradient of ``<u(x_t) + log q_t(x_t)>`` by the parameters t has a part through the samples
    x_t and a part ``<d log q_t / dt>``, whose mean is zero and whose noise is left out here:

        gradient = < (du/dx + dlog q/dx) . dx_t/dt >

    It vanishes sample by sample where q = p. Costs one pass through the inverse map more than
    ``reverse_kl``; the value is the same. Source: G. Roeder et al., arXiv:1703.09194;
    L. Vaitl et al., arXiv:2206.09016.
    """
    x, log_q = flow.sample_and_log_prob(n, generator)
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        (force,) = torch.autograd.grad(flow.log_prob(leaf).sum(), leaf)
    energy = require_energies(u(x), n)
    path = (x * force).flatten(1).sum(1)
    # The value of the work, the derivative of the path.
    return (energy + path + (log_q - path).detach()).mean()
