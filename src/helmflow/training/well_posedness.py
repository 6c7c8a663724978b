"""Keeping a potential map a diffeomorphism."""

from typing import NamedTuple

import torch

from helmflow.bijectors.potential_map import PotentialMap
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

MARGIN, LEAST_MARGIN = 0.1, 1e-6
"""Bounds of the least eigenvalue that a weakened map is left with."""

PART = 4096


class LeastEigenvalue(NamedTuple):
    """Of the Hessian of half the squared distance plus the potential, before and after."""

    before: float
    after: float


def least_eigenvalues(bijector: PotentialMap, points: Configs) -> Values:
    """At every point (batch,), positive where the map does not fold; NaN becomes -infinity."""
    with torch.no_grad():
        values = torch.cat([bijector.least_eigenvalue(part) for part in points.split(PART)])
    return values.nan_to_num(nan=-float("inf"))


def least_eigenvalue(bijector: PotentialMap, points: Configs) -> float:
    """The least over points (batch, n)."""
    return float(least_eigenvalues(bijector, points).min())


def enforce_well_posedness(bijector: PotentialMap, points: Configs) -> LeastEigenvalue:
    """Weaken the potential of a map that folds at one of the points, until it does not.

    ``psi -> c psi`` with c < 1: every convex combination of psi and zero that stays clear of
    folding is a map again, and c = 0 is the identity. The least eigenvalue becomes about as
    large as it was negative, so that a map that hardly folds hardly changes; a map that does not
    fold is left alone.
    """
    coefficients = getattr(bijector.potential, "coefficients", None)
    if coefficients is None:
        raise InputError("potential", "one that is linear", type(bijector.potential).__name__)
    before = after = least_eigenvalue(bijector, points)
    if before > 0.0:
        return LeastEigenvalue(before, after)
    margin = aim = min(max(-before, LEAST_MARGIN), MARGIN)
    while after < margin:
        # exact on the torus, where the eigenvalue is linear in the potential
        factor = (1.0 - 1.001 * aim) / (1.0 - after) if after > -1e6 else 0.5
        with torch.no_grad():
            coefficients.mul_(min(max(factor, 0.1), 1.0 - aim))
        after = least_eigenvalue(bijector, points)
        aim = min(2.0 * aim, 0.5)
    return LeastEigenvalue(before, after)
