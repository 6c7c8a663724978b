"""The Gaussian base of a run."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.densities.phonons import self_consistent
from helmflow.errors import InputError
from helmflow.families.path.broken_symmetry import base_in_a_well
from helmflow.families.path.problem import Problem
from helmflow.families.path.well import Well
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


UNSTABLE = "harmonic (the self-consistent fit was unstable)"

NamedBase = tuple[Gaussian, str]


class Start(NamedTuple):
    """The Gaussian base of a run, its name, and the problem seen from the base's mean."""

    problem: Problem
    base: Gaussian
    name: str


def start_of(problem: Problem, run: Run) -> Start:
    """Where a run starts from, found or as the run has kept it."""

    def pack(start: Start) -> Kept:
        base = start.base
        facts = {"name": start.name, "well": list(start.problem.well)}
        return Kept({"precision": base.precision[base.cells.first_cell]}, facts)

    def unpack(kept: Kept) -> Start:
        seen = problem.in_well(Well(*kept.facts["well"]))
        base = gaussian_of(seen, kept.tensors["precision"])
        return Start(seen, base, str(kept.facts["name"]))

    return run.once("base", lambda _: find_start(problem, run.settings), Form(pack, unpack))


def find_start(problem: Problem, settings: Settings) -> Start:
    """The base closer to the target: about the reference, or in one of two wells of a field."""
    base, name = build_base(problem, settings)
    free = settings.base.kind != "harmonic" and settings.method != "flow"
    wells = base_in_a_well(problem, base, settings.seed) if free else None
    if wells is None:
        return Start(problem, base, name)
    return Start(*wells, "self-consistent harmonic, in one of two wells")


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
        return base, UNSTABLE
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
