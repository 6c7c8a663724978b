"""Bases for fields with two wells, equal or not: a Gaussian in one of them."""

import math

import torch

from helmflow.densities.gaussian import Gaussian
from helmflow.densities.phonons import ValueAndGradient, force_constants, self_consistent
from helmflow.errors import InputError
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.families.path.problem import Problem
from helmflow.families.path.well import WHOLE, Well
from helmflow.skeleton.limits import SYMMETRY
from helmflow.streams import stream

AMPLITUDES = torch.logspace(-2.0, 2.0, 81, dtype=torch.float64)
"""Uniform fields among which the bottom of a well is looked for."""

BOUND_SAMPLES = 500
"""Draws that decide which of two bases is closer to the target."""

MATTERS = 20.0
"""kT above the deeper well from which on a well carries nothing."""

STEP = 1e-4
"""Of central differences, in units of the field at the bottom of its well."""

EVEN_SAMPLES = 32
"""Fields whose action is compared with that of their mirror images."""

MEAN_FIELDS = 96, 48
"""Values of the mean field at which a well is weighed, and draws at each."""

MARGIN = 2.0
"""kT by which <w>_base must be lower in a well than about phi = 0. Closer together, fields cross
between the wells, and a base that covers both costs less: measured on 4 x 4 sites, m^2 = -4."""

FIT = 12, 2000
"""Iterations of the self-consistent fit, and samples of each."""


def base_in_a_well(
    problem: Problem, about_zero: Gaussian, seed: int
) -> tuple[LatticeProblem, Gaussian] | None:
    """The problem seen from a well at phi0 != 0 and the Gaussian closest to it there.

    A target that is not even in phi (measured) is made so. None where it then has no minimum at a
    uniform phi0 > 0, no Gaussian is stable in it, or none is closer to the target than
    ``about_zero`` by `MARGIN`.
    """
    if not isinstance(problem, LatticeProblem):
        return None
    bottom = _bottom(problem)
    if bottom is None:
        return None
    drawn = about_zero.sample(EVEN_SAMPLES, stream(seed, "reversed fields"))
    well = Well(bottom, even=asymmetry(problem, drawn) > SYMMETRY.soft)
    found = problem.in_well(well)
    try:
        stiffness = force_constants(found.target, problem.symmetry, step=STEP * bottom)
        start = Gaussian(stiffness, cells=problem.symmetry.cells)
        found = problem.in_well(_divided(well, start))
        to_beat = bound(problem, about_zero, seed)
        if bound(found, start, seed) > to_beat:
            return None
        follow = _Follow(found)
        iterations, n_samples = FIT
        base = self_consistent(
            start,
            found.target,
            problem.symmetry,
            iterations=iterations,
            n_samples=n_samples,
            generator=stream(seed, "well"),
            recentre=follow,
        )
    except InputError:
        return None
    if bound(follow.problem, base, seed) > to_beat - MARGIN:
        return None
    return _widened(follow.problem, base, seed)


def bound(problem: Problem, base: Gaussian, seed: int) -> float:
    """<w>_base, no less than the free energy difference (Gibbs and Bogoliubov)."""
    u = base.sample(BOUND_SAMPLES, stream(seed, "bound"))
    return (problem.target(u)[0] + base.log_prob(u)).mean().item()


def _widened(
    problem: LatticeProblem, base: Gaussian, seed: int
) -> tuple[LatticeProblem, Gaussian]:
    """The base with mean and variance of the mean field that the divided target has.

    The Gaussian of least <w> is too narrow where the well has a shoulder towards phi = 0. Weights
    exp(-w) of fields that are spread evenly over mean fields, instead of drawn from the base, see
    the shoulder.
    """
    n_sites, centre = len(base.precision), problem.well.centre
    width = 1.0 / math.sqrt(n_sites * _uniform_stiffness(base))
    low, high = -1.5 * centre - 5.0 * width, 6.0 * width
    mean = torch.linspace(low, high, MEAN_FIELDS[0], dtype=torch.float64)
    u = base.sample(math.prod(MEAN_FIELDS), stream(seed, "mean fields"))
    u = (u - u.mean(1, keepdim=True)).view(*MEAN_FIELDS, n_sites) + mean[:, None, None]
    u = u.view(-1, n_sites)
    work = (problem.target(u)[0] + base.log_prob(u)).view(*MEAN_FIELDS)
    p = (torch.logsumexp(-work, 1) - 0.5 * (mean / width).square()).softmax(0)
    shift = (p @ mean).item()
    stiffness = 1.0 / (n_sites * (p @ (mean - shift).square()).item())
    precision = base.precision + (stiffness - _uniform_stiffness(base)) / n_sites
    wide = Gaussian(precision, cells=base.cells)
    shifted = problem.well._replace(centre=centre + shift)
    return problem.in_well(_divided(shifted, wide)), wide


class _Follow:
    """Moves the centre of a well to where the mean force vanishes."""

    def __init__(self, problem: LatticeProblem) -> None:
        self.problem = problem

    def __call__(self, base: Gaussian, pull: torch.Tensor) -> ValueAndGradient:
        well = self.problem.well
        centre = well.centre - pull.mean().item() / _uniform_stiffness(base)
        self.problem = self.problem.in_well(_divided(well._replace(centre=centre), base))
        return self.problem.target


def _divided(well: Well, base: Gaussian) -> Well:
    """The division in which the base's mixture with its mirror image has the base as a part."""
    return well._replace(slope=2.0 * well.centre * _uniform_stiffness(base))


def _uniform_stiffness(base: Gaussian) -> float:
    """Force on every site, per unit of a uniform field."""
    return base.precision[0].sum().item()


def _bottom(problem: LatticeProblem) -> float | None:
    """Uniform phi0 > 0 of least action, made even, or None where phi = 0 has less."""
    action = _uniform(problem)
    n = len(AMPLITUDES)
    even = -torch.logaddexp(-action[n + 1 :], -action[:n].flip(0)) + math.log(2.0)
    lowest = int(even.argmin())
    return AMPLITUDES[lowest].item() if even[lowest] < action[n] else None


def _uniform(problem: LatticeProblem) -> torch.Tensor:
    """Action of the uniform fields -`AMPLITUDES`, 0 and `AMPLITUDES`, as given."""
    amplitudes = torch.cat([-AMPLITUDES.flip(0), torch.zeros(1).double(), AMPLITUDES])
    fields = amplitudes[:, None].expand(-1, math.prod(problem.shape)).contiguous()
    return problem.in_well(WHOLE).target(fields)[0]


def barrier_of_unequal_wells(problem: LatticeProblem, u: torch.Tensor) -> float:
    """kT from the shallower of two wells of uniform fields up to what parts it from the deeper.

    0 where there is one well, where u (batch, V) shows that they mirror each other, and where the
    shallower one is too high to matter.
    """
    action, zero = _uniform(problem), len(AMPLITUDES)
    wells = sorted((int(action[:zero].argmin()), zero + int(action[zero:].argmin())))
    bottoms = action[wells]
    top, higher = action[wells[0] : wells[1] + 1].max(), bottoms.max()
    if not higher - bottoms.min() < MATTERS or asymmetry(problem, u) <= SYMMETRY.soft:
        return 0.0
    return (top - higher).item()


def asymmetry(problem: LatticeProblem, u: torch.Tensor) -> float:
    """Largest |S(phi) - S(-phi)| of the fields of u (batch, V), kT; infinite if undefined."""
    phi, whole = problem.well.field(u), problem.in_well(WHOLE)
    change = (whole.target(phi)[0] - whole.target(-phi)[0]).abs()
    return change.nan_to_num(nan=math.inf).max().item()
