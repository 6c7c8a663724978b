"""Losses for energies without gradients: only values u(x) are ever asked for.

With ``r(x) = u(x) + log q(x)`` the gradient of KL(q || p) is ``<r dlog q>_q``, an average over
samples x that are held fixed. Averaged as it stands (the log-likelihood trick) it is useless: a
constant c added to u changes nothing but adds ``c^2 tr(Fisher)/n`` to its variance, and one sample
of high energy moves every parameter. What is here subtracts, from the r of every sample, the mean
of the others, and bounds what a single sample can do. Source: W. Kool, H. van Hoof, M. Welling,
OpenReview r1lgTGL5DE; L. Richter et al., arXiv:2010.10436; P. Bialas et al., arXiv:2308.13294.
"""

import math

import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.errors import EnergyError, InputError
from helmflow.generalised_work import ReducedPotential, density_work, require_energies
from helmflow.shapes import Configs, Values

BISECTIONS = 60


def leave_one_out(
    flow: Density,
    u: ReducedPotential,
    n: int,
    generator: torch.Generator,
    *,
    clip: float | None = None,
) -> Tensor:
    """Mean work of n fresh samples, in kT, with the leave-one-out score-function gradient.

    ``gradient = 1/(n - 1) sum_b (r_b - mean r) dlog q(x_b)``, unbiased; zero, sample by sample,
    where q = p. ``clip`` bounds ``|r_b - mean r|`` in kT: biased, but no sample dominates. u may
    return +inf (the sample then counts as the highest finite one); raises EnergyError for NaN or
    when nothing is finite, InputError for n < 2.
    """
    if n < 2:
        raise InputError("n", "at least 2 samples", n)
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(n, generator)
        work = finite_work(density_work(x, log_q, u))
        signal = work - work.mean()
        if clip is not None:
            signal = signal.clamp(-clip, clip)
            signal = signal - signal.mean()
    surrogate = (signal * flow.log_prob(x)).sum() / (n - 1)
    return work.mean() + surrogate - surrogate.detach()


def finite_work(work: Values) -> Values:
    """Works with +inf replaced by the highest finite one; EnergyError for anything else."""
    if bool((torch.isnan(work) | (work == -math.inf)).any()):
        raise EnergyError("the energy returned NaN or -inf")
    finite = torch.isfinite(work)
    if not bool(finite.any()):
        raise EnergyError("the energy is infinite for every sample")
    return torch.where(finite, work, work[finite].max())


def lin_log(u: ReducedPotential, threshold: float) -> ReducedPotential:
    """``u`` up to ``threshold``, above it ``threshold + ln(1 + u - threshold)``, in kT.

    For training only, where a single collision would otherwise outweigh a batch: choose 10 to 100
    kT above what matters. Weights and errors always use u itself.
    """

    def regular(x: Configs) -> Values:
        value = require_energies(u(x), len(x))
        excess = (value - threshold).clamp_min(0.0)
        return torch.where(value > threshold, threshold + torch.log1p(excess), value)

    return regular


def trust_region_power(log_w: Values, radius: float) -> float:
    """The largest power h <= 1 for which weights ``w^h`` stay near uniform.

    ``sum_b v_b ln(n v_b) <= radius`` with v = w^h normalised, radius in nats: the step from a
    flow q towards ``q^(1-h) p^h`` is then resolved by samples of q, in any dimension. Source: J.
    Blessing et al., arXiv:2508.12511.
    """
    if not radius > 0:
        raise InputError("radius", "a positive number of nats", radius)

    def divergence(h: float) -> float:
        v = torch.softmax(h * log_w, 0)
        return float((v * (v * len(v)).clamp_min(1e-300).log()).sum())

    if divergence(1.0) <= radius:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if divergence(middle) <= radius else (low, middle)
    return low
