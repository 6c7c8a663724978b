"""Traces of the control variates on trial: a wrong one gives a function of mean zero a mean."""

from collections.abc import Sequence

import torch
from torch import Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.estimators.integration import least_variance
from helmflow.families.path.ladder import LadderSampler
from helmflow.fields.base import GradientField, Point, TransportField
from helmflow.results import Check
from helmflow.skeleton.checks import traces_fit
from helmflow.skeleton.run import Run

STEP = 1e-3
"""Of white noise: central differences are then exact to 1e-6 of what is anharmonic."""

SHARE = 0.05
"""Of the energies of a run that this may take."""


def trace_checks(sampler: LadderSampler, stderr: float, goal: float, run: Run) -> list[Check]:
    """Whether the control variates, with their weights in the integral, have the mean zero.

    What is wrong with their traces at one configuration of the target moves the integral as much,
    and neither the scatter of samples nor a comparison with them could show it. No check without
    control variates, or where it would take more than `SHARE` of the run's energies.
    """
    samples, fields, base = sampler.samples(), sampler.fields, sampler.base
    if samples.stein is None:
        return []
    n = 4 * len(base.precision)
    if n > min(SHARE * run.budget.evaluations, run.budget.left):
        return []
    weights = torch.from_numpy(samples.weight @ least_variance(samples))
    moved = abs(trace_error(fields, base, sampler.target_configurations()[:1], weights))
    return [traces_fit(moved / max(stderr, 0.1 * goal))]


def trace_error(
    fields: Sequence[GradientField], base: Gaussian, u: Tensor, weights: Tensor
) -> float:
    """``sum_k c_k (T_k - tr[K^-1 grad grad phi_k])`` at u (1, n), kT; T_k as Stein functions have.

    The trace by central differences of the gradient along every mode of the base; ``weights`` c
    (F,), of all functions of the fields in turn. Potentials of one formula are left out.
    """
    columns = base.colour(torch.eye(len(base.precision), dtype=torch.float64))
    there = torch.cat([u + STEP * columns, u - STEP * columns])
    nothing = Point(u, None, torch.zeros_like(u), torch.zeros(1, dtype=torch.float64))
    error = 0.0
    for field, c in zip(fields, weights.split([f.size for f in fields]), strict=True):
        if isinstance(field, TransportField):
            plus, minus = field.contract(there, c)[0].chunk(2)
            trace = torch.linalg.vecdot(plus - minus, columns).sum() / (2.0 * STEP)
            error += float(-c @ field.stein(nothing)[:, 0] - trace)
    return error
