"""Second-order fits: exact on linear problems, quadratic at zero residual, tempered potentials."""

import math

import pytest
import torch

from helmflow.bijectors.potential_map import SpherePotentialMap, TorusPotentialMap
from helmflow.bijectors.potentials import FourierPotential, RadialPotential
from helmflow.energies.torus import TorusMixture
from helmflow.errors import InputError
from helmflow.manifolds.sphere import Sphere, spread_points
from helmflow.streams import stream
from helmflow.training.least_squares import LeastSquaresPlan, Residuals, fit_variance
from helmflow.training.potential_fit import TemperingPlan, fit_potential


class Curve(Residuals):
    """r = p1 exp(p0 x) - exp(x/2) + constant, None for p1 < 0."""

    def __init__(self, constant=0.0):
        self.x = torch.linspace(-1.0, 1.0, 30, dtype=torch.float64)
        self.constant = constant

    def values(self, p):
        if p[1] < 0:
            return None
        return p[1] * (p[0] * self.x).exp() - (0.5 * self.x).exp() + self.constant

    def jacobian(self, p):
        grown = (p[0] * self.x).exp()
        return torch.stack((p[1] * self.x * grown, grown), -1)


PLAN = TemperingPlan(final=LeastSquaresPlan(max_steps=15))
START = torch.tensor([0.0, 2.0], dtype=torch.float64)


def test_a_zero_residual_problem_is_solved_to_rounding():
    losses = []
    report = lambda step, loss, damping: losses.append(loss)  # noqa: E731
    outcome = fit_variance(Curve(), START, torch.ones(30).double(), LeastSquaresPlan(), report)
    assert outcome.loss < 1e-25
    assert abs(outcome.parameters - torch.tensor([0.5, 1.0])).max() < 1e-9
    assert losses == sorted(losses, reverse=True)
    assert losses[-2] < 1e-3 * losses[-3]  # faster than linear at the end


def test_a_constant_does_not_matter():
    plan = LeastSquaresPlan()
    weights = torch.linspace(1.0, 2.0, 30).double()
    first, second = (fit_variance(Curve(c), START, weights, plan) for c in (0.0, 7.5))
    assert (first.parameters - second.parameters).abs().max() < 1e-9


def test_a_start_without_density_is_refused():
    with pytest.raises(InputError, match="start"):
        fit_variance(Curve(), -START, torch.ones(30).double(), LeastSquaresPlan())
    with pytest.raises(InputError, match="max_steps"):
        LeastSquaresPlan(max_steps=0)
    with pytest.raises(InputError, match="powers"):
        TemperingPlan(powers=(0.5, 0.2))


def divergence(bijector, nodes, weights, log_p):
    """KL(q || p) on a grid, q = det dF / volume."""
    with torch.no_grad():
        log_q = bijector.forward(nodes)[1] - bijector.manifold.log_volume
    log_p = log_p - torch.logsumexp(log_p + weights.log(), 0)
    assert abs((log_q.exp() * weights).sum() - 1.0) < 1e-10
    return float((weights * log_q.exp() * (torch.expm1(log_p - log_q) - log_p + log_q)).sum())


def test_a_torus_density_is_fitted_spectrally():
    energy = TorusMixture([[0.21, 2.85], [1.89, 6.18], [3.77, 1.56]])
    found = []
    for radius, n in ((3, 14), (5, 20)):
        f = TorusPotentialMap(FourierPotential(2, radius), 2)
        nodes, weights = f.manifold.quadrature(n)
        fit_potential(f, nodes, weights, -energy(nodes), PLAN)
        fine, w = f.manifold.quadrature(61)
        found.append(divergence(f, fine, w, -energy(fine)))
    assert found[0] < 1e-4
    assert found[1] < 1e-8


def test_a_sphere_density_is_fitted():
    sphere = Sphere(2)
    f = SpherePotentialMap(RadialPotential(spread_points(sphere, 60, stream(0, "c")), 3.0), 2)
    axis = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    nodes, weights = sphere.quadrature(14)
    outcome = fit_potential(f, nodes, weights, 4.0 * nodes @ axis, PLAN)
    fine, w = sphere.quadrature(47)
    assert divergence(f, fine, w, 4.0 * fine @ axis) < 1e-5
    assert outcome.loss < 1e-5
    assert f.least_eigenvalue(fine).min() > 0


def test_targets_that_are_not_finite_are_refused():
    f = TorusPotentialMap(FourierPotential(1, 2), 1)
    nodes, weights = f.manifold.quadrature(8)
    log_p = nodes[:, 0].clone()
    log_p[0] = math.nan
    with pytest.raises(InputError, match="log_target"):
        fit_potential(f, nodes, weights, log_p, TemperingPlan())
