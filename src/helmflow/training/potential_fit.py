"""Fitting the potential of an implicit map to a target, a Monge-Ampere solver in effect.

The map F runs from the target to a uniform base, ``q(y) = det dF(y) / volume``, and its potential
is linear in the parameters, so everything is explicit: no sampling, no inverse, no learning rate.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from helmflow.bijectors.potential_map import PotentialMap
from helmflow.bijectors.potentials import LinearPotential
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values
from helmflow.training.least_squares import (
    LeastSquaresOutcome,
    LeastSquaresPlan,
    Residuals,
    StepReport,
    fit_variance,
)

UNIFORM_SHARE = 0.02
"""Of the weights of the nodes; the rest follows the target."""

PART = 4096
"""Points whose images are computed at once."""


@dataclass(frozen=True)
class TemperingPlan:
    """The target p is approached through p^h.

    ``powers`` h increase to 1; ``steps`` are taken at each but the last, which follows
    ``final``. Few powers drive a step against the boundary where the map folds.
    """

    powers: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    steps: int = 3
    final: LeastSquaresPlan = field(default_factory=LeastSquaresPlan)

    def __post_init__(self) -> None:
        if not self.powers or self.powers[-1] != 1.0 or sorted(self.powers) != list(self.powers):
            raise InputError("powers", "an increasing list that ends at 1", self.powers)


class PotentialResiduals(Residuals):
    """``log det dF - log p`` at nodes y (N, n) where ``log p`` is ``log_target`` (N,)."""

    def __init__(self, bijector: PotentialMap, nodes: Tensor, log_target: Tensor) -> None:
        potential = bijector.potential
        if not isinstance(potential, LinearPotential):
            raise InputError("potential", "one that is linear", type(potential).__name__)
        self.bijector, self.nodes, self.log_target = bijector, nodes, log_target
        self.coefficients, self.features = potential.coefficients, potential.features(nodes)

    def tempered(self, power: float) -> "PotentialResiduals":
        """The same nodes with the target raised to a power."""
        other = object.__new__(PotentialResiduals)
        other.bijector, other.nodes, other.features = self.bijector, self.nodes, self.features
        other.log_target = power * self.log_target
        return other

    def values(self, parameters: Tensor) -> Tensor | None:
        with torch.no_grad():
            jet = self.bijector.tangent_jet(self.nodes, *self.features.jet(parameters))
            log_det = self.bijector.log_det(*jet)
        return log_det - self.log_target if bool(torch.isfinite(log_det).all()) else None

    def jacobian(self, parameters: Tensor) -> Tensor:
        """Derivatives of the log-determinant, closed but for its own two arguments."""
        with torch.no_grad():
            jet = self.bijector.tangent_jet(self.nodes, *self.features.jet(parameters))
        v, hessian = (part.requires_grad_() for part in jet)
        log_det = self.bijector.log_det(v, hessian).sum()
        p, P = torch.autograd.grad(log_det, (v, hessian), allow_unused=True)
        p = torch.zeros_like(v) if p is None else p
        return self.features.pull_back(
            *self.bijector.ambient(self.nodes, p, 0.5 * (P + P.mT)),
        )


def fit_potential(
    bijector: PotentialMap,
    nodes: Tensor,
    weights: Tensor,
    log_target: Tensor,
    plan: TemperingPlan,
    report: StepReport | None = None,
) -> LeastSquaresOutcome:
    """Fit the coefficients of a map's linear potential in place, by tempered least squares.

    ``nodes`` (N, n) with quadrature ``weights`` (N,) on the manifold, ``log_target`` (N,) the
    unnormalised log density there. Raises InputError for a log density that is not finite.
    """
    if not bool(torch.isfinite(log_target).all()):
        raise InputError("log_target", "finite log densities at all nodes", "NaN or infinity")
    residuals = PotentialResiduals(bijector, nodes, log_target)
    parameters = residuals.coefficients.detach().clone()

    def fit(power: float, stage: LeastSquaresPlan) -> LeastSquaresOutcome:
        omega = _shares(weights, power * log_target)
        return fit_variance(residuals.tempered(power), parameters, omega, stage, report)

    for power in plan.powers[:-1]:
        parameters = fit(power, LeastSquaresPlan(max_steps=plan.steps)).parameters
    outcome = fit(plan.powers[-1], plan.final)
    with torch.no_grad():
        residuals.coefficients.copy_(outcome.parameters)
    return outcome


def potential_loss(
    bijector: PotentialMap, nodes: Tensor, weights: Tensor, log_target: Tensor
) -> float:
    """The loss of `fit_potential` for a map as it is, infinite if it folds at a node."""
    with torch.no_grad():
        log_det = torch.cat([bijector.forward(part)[1] for part in nodes.split(PART)])
    r = log_det - log_target
    omega = _shares(weights, log_target)
    loss = 0.5 * float(omega @ (r - omega @ r).square())
    return loss if math.isfinite(loss) else math.inf


def _shares(weights: Tensor, log_target: Tensor) -> Tensor:
    """Weights of the nodes in a fit: mostly the target's own, sum one."""
    density = (log_target - log_target.max()).exp() * weights
    return (
        1.0 - UNIFORM_SHARE
    ) * density / density.sum() + UNIFORM_SHARE * weights / weights.sum()


MARGIN, LEAST_MARGIN = 0.1, 1e-6
"""Bounds of the least eigenvalue that a weakened map is left with."""


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
