"""Checks of where the chains on a path have been, and of what they started from."""

from helmflow.families.path.base import UNSTABLE
from helmflow.families.path.broken_symmetry import AMPLITUDES, asymmetry, barrier_of_unequal_wells
from helmflow.families.path.ladder import LadderSampler
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.results import Check
from helmflow.skeleton.checks import at_most, mirror_images, not_afforded, unequal_wells


def basin_checks(sampler: LadderSampler, base_name: str) -> list[Check]:
    """Whether the base was fitted, and whether a well that counts twice has an equal partner."""
    checks = []
    if base_name.startswith(UNSTABLE):
        meaning = "fits without a stable Gaussian"
        checks.append(at_most("self-consistent base", 1.0, 0.0, meaning))
    problem = sampler.problem
    if not (isinstance(problem, LatticeProblem) and sampler.n_chains) or problem.well.even:
        return checks
    u = sampler.target_configurations()
    affordable = problem.budget.left >= 2 * len(u) + 2 * len(AMPLITUDES) + 1
    if problem.well.slope:
        mirror = (
            mirror_images(asymmetry(problem, u)) if affordable else not_afforded("mirror images")
        )
        return [*checks, mirror]
    barrier = barrier_of_unequal_wells(problem, u) if affordable else 0.0
    return [*checks, unequal_wells(barrier)] if barrier else checks
