"""The objectives of training by the names they have in settings."""

import math

import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.errors import InputError
from helmflow.generalised_work import ReducedPotential
from helmflow.objectives import (
    forward_kl,
    on_policy_log_variance,
    path_gradient_reverse_kl,
    reverse_kl,
    two_sided,
)
from helmflow.settings import Objective
from helmflow.shapes import Configs
from helmflow.streams import stream
from helmflow.training.distributed import Loss

STEP = 1e-4
"""Of the central difference, in units of the distance between two draws."""


def training_loss(
    name: Objective | None, flow: Flow, u: ReducedPotential, samples: Configs | None
) -> Loss:
    """The mean loss of n fresh samples of ``flow``, in kT, as ``train`` wants it.

    None stands for the path gradient if autograd can differentiate the base's density, and for
    the plain reverse divergence otherwise. ``samples`` (m, ...) of the target feed the objectives
    that need them, n at random each time. Raises ``InputError`` when they are missing, or when
    the path gradient is asked for and the base cannot provide it.
    """
    smooth = name not in (None, "path_gradient") or has_score(flow.base)
    if name is None:
        name = "path_gradient" if smooth else "reverse_kl"
    if not smooth and name == "path_gradient":
        raise InputError("training.objective", "reverse_kl with a base of unknown slope", name)
    of_flow = {
        "path_gradient": path_gradient_reverse_kl,
        "reverse_kl": reverse_kl,
        "log_variance": on_policy_log_variance,
    }
    if name in of_flow:
        return lambda n, generator: of_flow[name](flow, u, n, generator)
    if samples is None:
        raise InputError("training.objective", f"one of {', '.join(of_flow)} here", name)
    if name == "forward_kl":
        return lambda n, generator: forward_kl(flow, _some(samples, n, generator))
    return lambda n, generator: two_sided(flow, u, _some(samples, n, generator), n, generator)


def has_score(density: Density) -> bool:
    """Whether autograd differentiates a log density rightly: against a central difference."""
    x, _ = density.sample_and_log_prob(2, stream(0, "score"))
    x, direction = x[:1], x[:1] - x[1:]
    leaf = x.detach().requires_grad_()
    try:
        (gradient,) = torch.autograd.grad(density.log_prob(leaf).sum(), leaf)
    except RuntimeError:  # what autograd raises where there is no derivative
        return False
    with torch.no_grad():
        ahead = density.log_prob(x + STEP * direction)
        behind = density.log_prob(x - STEP * direction)
    slope = ((ahead - behind) / (2.0 * STEP)).item()
    return math.isclose(slope, (gradient * direction).sum().item(), rel_tol=1e-3)


def _some(samples: Tensor, n: int, generator: Generator) -> Tensor:
    return samples[torch.randint(len(samples), (n,), generator=generator)]
