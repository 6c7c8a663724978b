"""Second-order fitting of a density: damped Gauss-Newton on the variance of log q - log p.

With residuals ``r_i = log q(x_i) - log p(x_i)`` (p not normalised) at fixed points of weights
``omega_i`` (sum one) the loss is ``L = 1/2 sum_i omega_i (r_i - rbar)^2``. It does not see ln Z,
equals the Kullback-Leibler divergence to leading order at the optimum if omega is p, and
diverges where the density vanishes or a map folds, so that the step that minimises it keeps the
map invertible. If q can equal p the residuals vanish there and convergence is quadratic.
Source: K. Levenberg, doi:10.1090/qam/10666; D. W. Marquardt, doi:10.1137/0111030.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.normal_equations import solve_normal_equations

LEAST_DAMPING, MOST_DAMPING = 1e-14, 1e8
RIDGE = 1e-10
"""Of the mean diagonal, always added: directions that change nothing stay put."""


class Residuals(ABC):
    """Residuals of a density at fixed points as a function of its parameters (P,)."""

    @abstractmethod
    def values(self, parameters: Tensor) -> Tensor | None:
        """r (N,) up to a constant, or None where the parameters give no density."""

    @abstractmethod
    def jacobian(self, parameters: Tensor) -> Tensor:
        """dr/dparameters (N, P)."""


@dataclass(frozen=True)
class LeastSquaresPlan:
    """When to stop and how to damp.

    ``patience`` successive steps of relative decrease below ``tolerance`` end a fit, as do
    ``max_steps`` or a loss below ``floor``, where rounding begins. The damping starts at
    ``damping`` and is divided by ``relax`` after a success, times ``tighten`` after a failure.
    """

    max_steps: int = 60
    tolerance: float = 1e-3
    patience: int = 3
    floor: float = 1e-28
    damping: float = 1e-2
    relax: float = 6.0
    tighten: float = 8.0

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise InputError("max_steps", "at least 1", self.max_steps)


@dataclass(frozen=True)
class LeastSquaresOutcome:
    """Where a fit ended: ``loss`` is L, ``accepted`` of ``steps`` trial steps were taken."""

    parameters: Tensor
    loss: float
    steps: int
    accepted: int
    damping: float


_MOST_HALVINGS = 12

StepReport = Callable[[int, float, float], None]
"""Called with step, loss and damping."""


def fit_variance(
    residuals: Residuals,
    start: Tensor,
    weights: Tensor,
    plan: LeastSquaresPlan,
    report: StepReport | None = None,
) -> LeastSquaresOutcome:
    """Minimise the weighted variance of the residuals from ``start`` (P,).

    ``weights`` (N,) are positive and are normalised here. Raises InputError if the residuals at
    the start are None or not finite.
    """
    omega = weights / weights.sum()
    parameters = start.detach().clone()
    r = residuals.values(parameters)
    if r is None or not bool(torch.isfinite(r).all()):
        raise InputError("start", "parameters that give a density", "none at a node")
    loss, centred = _variance(r, omega)
    damping, small, accepted, step = plan.damping, 0, 0, 0
    normal = _normal_equations(residuals, parameters, omega, centred)
    for step in range(1, plan.max_steps + 1):
        trial = parameters - _damped_solution(*normal, damping)
        r = residuals.values(trial)
        reached = (math.inf, centred) if r is None else _variance(r, omega)
        if not reached[0] < loss:
            damping *= plan.tighten
            small += damping > 1.0
            if damping > MOST_DAMPING:
                break
            continue
        small = small + 1 if loss - reached[0] < plan.tolerance * loss else 0
        parameters, accepted = trial, accepted + 1
        loss, centred = reached
        damping = max(damping / plan.relax, LEAST_DAMPING)
        if report is not None:
            report(step, loss, damping)
        if small >= plan.patience or loss < plan.floor:
            break
        normal = _normal_equations(residuals, parameters, omega, centred)
    return LeastSquaresOutcome(parameters, loss, step, accepted, damping)


def _variance(r: Tensor, omega: Tensor) -> tuple[float, Tensor]:
    centred = r - omega @ r
    return 0.5 * float(omega @ centred.square()), centred


def _centred_jacobian(residuals: Residuals, parameters: Tensor, omega: Tensor) -> Tensor:
    jacobian = residuals.jacobian(parameters)
    return (jacobian - omega @ jacobian) * omega.sqrt()[:, None]


def _normal_equations(
    residuals: Residuals, parameters: Tensor, omega: Tensor, centred: Tensor
) -> tuple[Tensor, Tensor]:
    """F = J' omega J with J centred (the Fisher matrix if q = p), and the gradient."""
    jacobian = _centred_jacobian(residuals, parameters, omega)
    return jacobian.T @ jacobian, jacobian.T @ (omega.sqrt() * centred)


def _damped_solution(fisher: Tensor, gradient: Tensor, damping: float) -> Tensor:
    diagonal = fisher.diagonal()
    mean = diagonal.mean().clamp_min(torch.finfo(fisher.dtype).tiny)
    added = damping * diagonal + (1e-3 * damping + RIDGE) * mean
    return _solution(fisher, gradient, added)


def _solution(matrix: Tensor, right: Tensor, penalty: Tensor) -> Tensor:
    solution = solve_normal_equations(*(t.detach().numpy() for t in (matrix, right, penalty)))
    return torch.from_numpy(solution.coefficients).to(right)


def damped_step(
    residuals: Residuals, parameters: Tensor, omega: Tensor, damping: float
) -> tuple[float, Tensor]:
    """One step, halved until it does not raise the loss: the loss before it, and where it leads.

    With D the diagonal of F, the step ``-(F + damping (D + mean D))^-1 J' r`` is found in the
    smaller of the spaces of parameters and of points. Raises InputError if the parameters give
    no density.
    """
    r = residuals.values(parameters)
    if r is None:
        raise InputError("parameters", "parameters that give a density", "none at a point")
    loss, centred = _variance(r, omega)
    jacobian = _centred_jacobian(residuals, parameters, omega)
    target = omega.sqrt() * centred
    diagonal = jacobian.square().sum(0)
    scale = damping * (diagonal + diagonal.mean().clamp_min(1e-300))
    if jacobian.shape[0] < jacobian.shape[1]:
        weighted = jacobian / scale
        step = weighted.T @ _solution(weighted @ jacobian.T, target, torch.ones_like(target))
    else:
        step = _solution(jacobian.T @ jacobian, jacobian.T @ target, scale)
    for _ in range(_MOST_HALVINGS):
        trial = parameters - step
        r = residuals.values(trial)
        if r is not None and _variance(r, omega)[0] <= loss:
            return loss, trial
        step = 0.5 * step
    return loss, parameters
