"""Maps that fold are weakened, as little as need be; the loss of a map as it is."""

import math

import pytest
import torch

from helmflow.bijectors.potential_map import SpherePotentialMap, TorusPotentialMap
from helmflow.bijectors.potentials import FourierPotential, RadialPotential
from helmflow.errors import InputError
from helmflow.manifolds.sphere import Sphere, spread_points
from helmflow.manifolds.torus import Torus
from helmflow.streams import stream
from helmflow.training.least_squares import LeastSquaresPlan
from helmflow.training.potential_fit import (
    TemperingPlan,
    enforce_well_posedness,
    fit_potential,
    least_eigenvalue,
    potential_loss,
)

CIRCLE = Torus(1).quadrature(64)


def cosine(a):
    """psi = a cos x, whose map folds at zero for a > 1: the eigenvalue is 1 - a cos x."""
    bijector = TorusPotentialMap(FourierPotential(1, 1), 1)
    bijector.potential.coefficients.data[0] = a
    return bijector


@pytest.mark.parametrize(("a", "after"), [(1.0 + 1e-4, 1e-4), (1.03, 0.03), (3.0, 0.1)])
def test_a_map_is_weakened_as_far_as_it_folds(a, after):
    bijector = cosine(a)
    found = enforce_well_posedness(bijector, CIRCLE[0])
    assert found.before == pytest.approx(1.0 - a, abs=1e-12)
    assert found.after == pytest.approx(after, rel=0.01)
    assert found.after == pytest.approx(least_eigenvalue(bijector, CIRCLE[0]), abs=1e-15)
    assert bijector.potential.coefficients[0].item() == pytest.approx(
        1.0 - after, abs=0.01 * after
    )


def test_a_map_that_does_not_fold_is_left_alone():
    bijector = cosine(1.0 - 1e-9)
    assert enforce_well_posedness(bijector, CIRCLE[0]).after == pytest.approx(1e-9, rel=1e-3)
    assert bijector.potential.coefficients[0] == 1.0 - 1e-9


@pytest.mark.parametrize("strength", [0.3, 3.0, 300.0])
def test_spheres(strength):
    """Where the eigenvalue is not linear in the potential."""
    centres = spread_points(Sphere(2), 30, stream(0, "centres"))
    bijector = SpherePotentialMap(RadialPotential(centres, 4.0), 2)
    draw = torch.randn(30, generator=stream(1, "a"), dtype=torch.float64)
    bijector.potential.coefficients.data = strength * draw
    points = Sphere(2).uniform(2000, stream(2, "points"))
    found = enforce_well_posedness(bijector, points)
    assert found.before < 0.0 < found.after
    with torch.no_grad():
        assert torch.isfinite(bijector.forward(points)[1]).all()
    assert enforce_well_posedness(bijector, points) == (found.after, found.after)


def test_other_potentials_are_refused():
    potential = RadialPotential(torch.eye(3, dtype=torch.float64), 1.0)
    del potential.coefficients
    bijector = SpherePotentialMap(potential, 2)
    with pytest.raises(InputError, match="potential"):
        enforce_well_posedness(bijector, torch.eye(3).double())


def test_the_loss_of_a_map():
    bijector = cosine(0.0)
    nodes, weights = CIRCLE
    log_p = nodes[:, 0].cos()
    plan = TemperingPlan(final=LeastSquaresPlan(max_steps=5))
    outcome = fit_potential(bijector, nodes, weights, log_p, plan)
    assert potential_loss(bijector, nodes, weights, log_p) == pytest.approx(
        outcome.loss, rel=1e-12
    )
    assert potential_loss(cosine(1.1), nodes, weights, log_p) == math.inf
