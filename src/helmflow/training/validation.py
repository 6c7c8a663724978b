"""Measures of a flow during training."""

import torch
from torch import Generator

from helmflow.densities.base import Density
from helmflow.estimators.reweighting import kish_ess, log_mean_exp
from helmflow.generalised_work import ReducedPotential, density_work
from helmflow.shapes import Configs


@torch.no_grad()
def measure(
    flow: Density,
    u: ReducedPotential,
    n: int,
    generator: Generator,
    samples: Configs | None = None,
) -> dict[str, float]:
    """Quality of a flow from n fresh samples, and from samples of the target if there are any.

    ``ess`` is Kish's fraction of n; ``free_energy`` = -ln<exp(-w)> and ``upper_bound`` = <w>, in
    kT; with samples (m, *event) also ``lower_bound`` = <u + log q> over them.
    """
    x, log_q = flow.sample_and_log_prob(n, generator)
    work = density_work(x, log_q, u).double()
    # A sample without a finite work has no weight.
    log_w = (-work).nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf).numpy()
    measured = {
        "ess": kish_ess(log_w) / n,
        "free_energy": -log_mean_exp(log_w),
        "upper_bound": float(work.mean()),
    }
    if samples is not None:
        measured["lower_bound"] = float(density_work(samples, flow.log_prob(samples), u).mean())
    return measured
