"""The Gaussian base of a run."""

import math

import torch
from torch import Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.densities.phonons import self_consistent
from helmflow.errors import InputError
from helmflow.families.path.problem import Problem
from helmflow.settings import Settings
from helmflow.skeleton.kept import Form, Kept
from helmflow.skeleton.run import Run
from helmflow.streams import stream

AVERAGED_SAMPLES = 1_000_000
"""Samples times symmetry operations per iteration of the self-consistent fit."""

SAMPLES = (96, 4000)
"""Fewest and most samples per iteration; costly energies get the fewest."""

STIFFNESS = 2.5
"""Spring of the Einstein base in units of what matches the mean square displacement."""

NOISE_LIMIT = 20.0
"""Averaged samples per coordinate below which the fit is noisier than the phonons are wrong."""


NamedBase = tuple[Gaussian, str]


def base_of(problem: Problem, run: Run) -> NamedBase:
    """The base of a run, built or as the run has kept it, and its name."""

    def pack(built: NamedBase) -> Kept:
        base, name = built
        return Kept({"precision": base.precision[base.cells.first_cell]}, {"name": name})

    def unpack(kept: Kept) -> NamedBase:
        return gaussian_of(problem, kept.tensors["precision"]), str(kept.facts["name"])

    return run.once("base", lambda _: build_base(problem, run.settings), Form(pack, unpack))


def gaussian_of(problem: Problem, rows: Tensor) -> Gaussian:
    """The base with these rows of its precision, those of the first cell."""
    cells = problem.symmetry.cells
    precision = cells.spread(rows)
    return Gaussian(precision, n_translations=problem.n_translations, cells=cells)


def build_base(problem: Problem, settings: Settings) -> NamedBase:
    """The base and what to call it: harmonic, self-consistent, or for Frenkel-Ladd Einstein.

    "auto" fits self-consistently when the crystal has enough symmetry for the fit to be sharp.
    Raises InputError for imaginary modes.
    """
    kind = settings.base.kind
    order = problem.symmetry.order
    most = SAMPLES[0] if problem.costly else SAMPLES[1]
    n_samples = math.ceil(min(max(AVERAGED_SAMPLES / order, SAMPLES[0]), most))
    base = Gaussian(
        problem.starting_precision(),
        n_translations=problem.n_translations,
        cells=problem.symmetry.cells,
    )
    if settings.method == "frenkel_ladd":
        return _einstein(base), "Einstein crystal"
    sharp = n_samples * order >= NOISE_LIMIT * base.dim
    if kind == "harmonic" or (kind == "auto" and not sharp):
        return base, "harmonic"
    try:
        fitted = self_consistent(
            base,
            problem.target,
            problem.symmetry,
            iterations=settings.base.iterations or problem.fit_iterations,
            n_samples=n_samples,
            generator=stream(settings.seed, "base"),
        )
    except InputError:
        if kind == "self_consistent":
            raise
        return base, "harmonic (the self-consistent fit was unstable)"
    return fitted, "self-consistent harmonic"


def _einstein(base: Gaussian) -> Gaussian:
    """Independent springs of one strength.

    k = STIFFNESS dim / tr K^-1: with STIFFNESS = 1 the mean square displacement would be that of
    ``base``, as a Frenkel-Ladd calculation usually chooses it; but independent neighbours then
    collide, and the work at lambda = 0 is dominated by rare overlaps.
    """
    spring = STIFFNESS * base.dim / base.covariance.diagonal().sum().item()
    identity = torch.eye(len(base.precision), dtype=torch.float64)
    return Gaussian(spring * identity, n_translations=base.n_translations, cells=base.cells)
