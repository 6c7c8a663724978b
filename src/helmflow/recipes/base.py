"""The Gaussian base of a run."""

import math

import torch

from helmflow.densities.gaussian import Gaussian
from helmflow.densities.phonons import self_consistent
from helmflow.errors import InputError
from helmflow.recipes.problem import Problem
from helmflow.settings import BaseSettings
from helmflow.streams import stream

AVERAGED_SAMPLES = 1_000_000
"""Samples times symmetry operations per iteration of the self-consistent fit."""

SAMPLES = (96, 4000)
"""Least and most samples per iteration."""

NOISE_LIMIT = 20.0
"""Averaged samples per coordinate below which the fit is noisier than the phonons are wrong."""


def build_base(problem: Problem, settings: BaseSettings, seed: int) -> Gaussian:
    """Harmonic or self-consistent Gaussian of a problem.

    "auto" fits self-consistently when the crystal has enough symmetry for the fit to be sharp,
    else takes the harmonic base. Raises InputError for imaginary modes.
    """
    order = problem.symmetry.order
    n_samples = math.ceil(min(max(AVERAGED_SAMPLES / order, SAMPLES[0]), SAMPLES[1]))
    base = Gaussian(problem.starting_precision(), n_translations=problem.n_translations)
    sharp = n_samples * order >= NOISE_LIMIT * base.dim
    if settings.kind == "harmonic" or (settings.kind == "auto" and not sharp):
        return base
    try:
        return self_consistent(
            base,
            problem.target,
            problem.symmetry,
            iterations=settings.iterations or problem.fit_iterations,
            n_samples=n_samples,
            generator=stream(seed, "base"),
        )
    except InputError:
        if settings.kind == "self_consistent":
            raise
        return base  # the fit left the region of stability; the phonons are still a valid base


def einstein_base(base: Gaussian) -> Gaussian:
    """Independent springs of one strength with the mean square displacement of ``base``.

    k = dim / tr K^-1, the spring that a Frenkel-Ladd calculation would take from a short run.
    """
    spring = base.dim / base.covariance.diagonal().sum().item()
    identity = torch.eye(len(base.precision), dtype=torch.float64)
    return Gaussian(spring * identity, n_translations=base.n_translations)
