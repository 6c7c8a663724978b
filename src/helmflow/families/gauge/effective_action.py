"""A gauge action that stands for matter, and the flow from loop splitting to it.

The hopping-parameter expansion makes of ``2 ln|det D|`` a sum over Wilson loops, plaquettes first.
Instead of expanding, the logarithms of the weights of samples are fitted by loops up to 4 x 4, by
least squares. Given such an action everything about the flow is linear too: what moves the base to
it obeys ``div v - v . grad u_t = W - <W>_t`` on samples of the base, weighed.
"""

import numpy as np
import torch
from torch import Tensor

from helmflow.estimators.nodes import Ladder, Nodes
from helmflow.fields.base import JointField
from helmflow.fields.loops import LoopField, loop_sums
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.normal_equations import solve_normal_equations
from helmflow.shapes import Values
from helmflow.training.transport_fit import fit_transport

Array = np.ndarray
NODES, DEGREE = 5, 1
ACTION_FIELD = JointField((PlaquetteField(), LoopField()))
"""What carries the base to the action."""

TEMPER = 0.5
"""Power of the weights in the fit of the action: between the base, where most samples are, and
the theory, where they count."""

TINY = 1e-6
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2)


def effective_couplings(angles: Tensor, log_w: Values) -> Tensor:
    """Couplings of `loop_sums` that come closest to ``log_w`` (batch,) up to a constant."""
    loops = loop_sums(angles)
    p = torch.softmax(TEMPER * log_w, 0)
    centred = loops - (loops @ p)[:, None]
    normal = (centred * p) @ centred.T
    right = (centred * p) @ (log_w - p @ log_w)
    solution = solve_normal_equations(normal.numpy(), right.numpy(), TINY * normal.diag().numpy())
    return torch.from_numpy(solution.coefficients)


def fit_to_action(
    angles: Tensor, couplings: Tensor, beta: float, generator: torch.Generator
) -> Tensor:
    """Coefficients (DEGREE + 1, fields) of the flow from ``beta sum cos P`` to the loops added.

    angles: plaquettes (batch, L0, L1) of samples of the base; couplings: of `loop_sums`.
    """
    leaf = angles.detach().requires_grad_()
    added = couplings @ loop_sums(leaf)
    (slope,) = torch.autograd.grad(-added.sum(), leaf)
    work = -added.detach()
    ladder, works, stein = Ladder.lobatto(NODES), [], []
    for lam in ladder.lam.tolist():
        drawn = _resampled(-lam * work, generator)
        p = angles[drawn]
        force = beta * torch.sin(p) + lam * slope[drawn]
        works.append(work[drawn].numpy()[None])
        stein.append(ACTION_FIELD.stein(p, force, lam).numpy()[:, None])
    # on the smallest lattices some rectangles have no flux: one penalty for all, never zero
    families = np.minimum(np.arange(ACTION_FIELD.size), PlaquetteField.size)
    nodes = Nodes(ladder.lam, ladder.weight, works, stein)
    fit = fit_transport(nodes, families, degree=DEGREE, ridges=RIDGES)
    return torch.from_numpy(fit.coefficients)


def _resampled(log_w: Values, generator: torch.Generator) -> Tensor:
    """As many indices as weights, each in proportion to its weight, in random order."""
    n = len(log_w)
    edges = torch.softmax(log_w, 0).cumsum(0)
    shift = torch.rand(1, generator=generator, dtype=torch.float64)
    points = (torch.arange(n, dtype=torch.float64) + shift) / n
    resampled = torch.searchsorted(edges, points).clamp_max(n - 1)
    return resampled[torch.randperm(n, generator=generator)]
