"""How observables of a lattice field answer to a coupling: ensembles correlated by a flow."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, Identity
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.errors import InputError
from helmflow.estimators.differences import reweighted_difference
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.nodes import Nodes
from helmflow.estimators.reweighting import reweight
from helmflow.fields.sine import SineField
from helmflow.generalised_work import work
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.objectives.known_gradient import ValueAndGradient
from helmflow.shapes import Configs, Values
from helmflow.training.transport_fit import fit_transport

FITTED = 0.25
"""Part of the samples that the map is fitted to; estimates come from the others."""

RIDGES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
REACH, FEATURES, STEPS = 3, 4, 4
"""Of kernels in sites, sine features of a field, and Runge-Kutta steps of the map."""

Family = Callable[[float], ValueAndGradient]
"""Reduced potential with gradient, of fields (batch, V), for each value of a coupling."""


@dataclass(frozen=True)
class FieldResponse:
    """Derivatives with respect to a coupling alpha, each from the same samples.

    ``transported``: d<O>/d alpha by central differences of ensembles made from one another by a
    fitted map; ``reweighted``: the same without a map. ``independent_stderr``: the error that two
    independent ensembles with as many samples each would have. ``free_energy``: d(-ln Z)/d alpha
    with the map's Stein function as control variate, ``free_energy_plain`` without.
    """

    transported: Estimate
    reweighted: Estimate
    independent_stderr: float
    free_energy: Estimate
    free_energy_plain: Estimate

    @property
    def gain_over_independent(self) -> float:
        """Ratio of variances: independent ensembles over transported ones."""
        return (self.independent_stderr / self.transported.stderr) ** 2

    @property
    def gain_over_reweighting(self) -> float:
        """Ratio of variances: plain reweighting over transported ensembles."""
        return (self.reweighted.stderr / self.transported.stderr) ** 2


def field_response(
    x: Configs,
    shape: tuple[int, int],
    family: Family,
    at: float,
    observable: Callable[[Configs], Values],
    *,
    delta: float,
    log_w: Values | None = None,
    g: float = 1.0,
) -> FieldResponse:
    """Derivatives of <O> and of -ln Z at the coupling ``at``, from samples x (n, V) there.

        d<O>/d alpha ~ (<O(f_+ x) w_+> / <w_+> - <O(f_- x) w_-> / <w_->) / (2 delta)
        ln w_s = -work(x, u_alpha, u_{alpha + s delta}, f_s)

    f_s is the flow of ``+-delta v`` with v fitted by least squares so that the work is constant
    to first order, d u/d alpha = div v - v . grad u + const; the same x serve both sides. Off by
    O(delta^2). ``log_w``: weights of x if they come from a flow; ``g`` their statistical
    inefficiency. Raises InputError for delta <= 0 or fewer than 100 samples.
    Source: S. Bacchio, arXiv:2305.07932; R. Abbott et al., arXiv:2401.10874.
    """
    if not delta > 0:
        raise InputError("delta", "a positive step of the coupling", delta)
    if len(x) < 100:
        raise InputError("x", "at least 100 samples", len(x))
    n_fit = int(FITTED * len(x))
    log_w = x.new_zeros(len(x)) if log_w is None else log_w
    field, weights = _fitted(x[:n_fit], shape, family, at, delta)
    x, log_w = x[n_fit:], log_w[n_fit:]
    maps = [FittedFlow(field, sign * delta * weights, n_steps=STEPS) for sign in (-1.0, 1.0)]
    potentials = [family(at - delta), family(at + delta)]
    sides, plain = [], []
    for ensembles, to in ((sides, maps), (plain, [Identity(), Identity()])):
        for bijector, potential in zip(to, potentials, strict=True):
            ensembles.append(_side(x, log_w, bijector, family(at), potential, observable))
    slope = _slope(x, family, at, delta)
    explained = torch.from_numpy(weights[0]) @ field.stein(x, family(at)(x)[1], 0.0)
    spread = math.hypot(*(_spread(*side) for side in plain))
    return FieldResponse(
        transported=_scaled(reweighted_difference(*sides[0], *sides[1], g=g), 2.0 * delta),
        reweighted=_scaled(reweighted_difference(*plain[0], *plain[1], g=g), 2.0 * delta),
        independent_stderr=spread * math.sqrt(g / len(x)) / (2.0 * delta),
        free_energy=reweight(slope - explained, log_w, g=g),
        free_energy_plain=reweight(slope, log_w, g=g),
    )


def _fitted(
    x: Tensor, shape: tuple[int, int], family: Family, at: float, delta: float
) -> tuple[SineField, np.ndarray]:
    """The velocities of every feature and orbit, and the weights (1, size) of v."""
    orbits = KernelOrbits(min(REACH, max(shape) // 2))
    field = SineField.on(shape, orbits, FEATURES, x.std().item())
    stein = field.stein(x, family(at)(x)[1], 0.0).numpy()
    slope = _slope(x, family, at, delta).numpy()
    nodes = Nodes(np.zeros(1), np.ones(1), [slope[None]], [stein[:, None]])
    families = np.repeat(np.arange(1 + FEATURES), len(orbits))
    return field, fit_transport(nodes, families, degree=0, ridges=RIDGES).coefficients


def _slope(x: Tensor, family: Family, at: float, delta: float) -> Values:
    """du/d alpha by a central difference, exact for couplings that enter linearly."""
    return (family(at + delta)(x)[0] - family(at - delta)(x)[0]) / (2.0 * delta)


def _side(
    x: Tensor,
    log_w: Tensor,
    bijector: Bijector,
    u_from: ValueAndGradient,
    u_to: ValueAndGradient,
    observable: Callable[[Configs], Values],
) -> tuple[Tensor, Tensor]:
    """Observable and log weight of every sample in the ensemble it is carried to."""
    spent = work(x, lambda x: u_from(x)[0], lambda x: u_to(x)[0], bijector)
    return observable(bijector.forward(x)[0]), log_w - spent


def _spread(observable: Tensor, log_w: Tensor) -> float:
    """Standard deviation of the observable under the weights."""
    w = torch.softmax(log_w, 0)
    return float((w @ (observable - w @ observable).square()).sqrt())


def _scaled(estimate: Estimate, width: float) -> Estimate:
    return replace(estimate, value=estimate.value / width, stderr=estimate.stderr / width)
