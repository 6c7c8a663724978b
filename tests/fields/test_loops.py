"""Fields of larger loops: divergence, Stein's identity, and an action that is found again."""

import math

import pytest
import torch

from helmflow.bijectors.fitted_flow import FittedFlow, Plaquettes
from helmflow.densities.flow import Flow
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.errors import InputError
from helmflow.estimators.reweighting import kish_ess
from helmflow.families.gauge.effective_action import (
    ACTION_FIELD,
    effective_couplings,
    fit_to_action,
)
from helmflow.fields.loops import LoopField, loop_sums
from helmflow.manifolds.links import plaquette_angles
from helmflow.streams import stream


def plaquettes(shape, n, beta=1.5):
    links, _ = LoopSplitting(shape, beta=beta).sample_and_log_prob(n, stream(0, "x"))
    return plaquette_angles(links)


def test_divergence_and_sum():
    p, field = plaquettes((4, 8), 1), LoopField()
    weights = torch.randn(field.size, generator=stream(1, "w"), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda t: field.velocity(t, 0.0, weights)[0], p)
    velocity, divergence = field.velocity(p, 0.0, weights)
    measured = torch.einsum("ijij->", jacobian[0, :, :, 0])
    assert float((measured - divergence).abs()) < 1e-10
    assert float(velocity.sum().abs()) < 1e-10


def test_stein_functions_have_mean_zero():
    p = plaquettes((4, 4), 20_000)
    found = LoopField().stein(p, 1.5 * torch.sin(p), 1.0)
    z = found.mean(1) / found.std(1).clamp_min(1e-9) * math.sqrt(20_000)
    assert float(z.abs().max()) < 5.0


def test_planted_action_is_found_and_reached():
    """Weights of an action with loops added: the fit returns it, and the flow leads there."""
    base = LoopSplitting((8, 8), beta=2.0)
    x, _ = base.sample_and_log_prob(1500, stream(2, "x"))
    p = plaquette_angles(x)
    planted = torch.zeros(len(loop_sums(p[:1])), dtype=torch.float64)
    planted[[0, 3, 4]] = torch.tensor([0.1, 0.06, -0.05], dtype=torch.float64)
    found = effective_couplings(p, planted @ loop_sums(p) + 7.0)
    assert float((found - planted).abs().max()) < 1e-2
    coefficients = fit_to_action(p, planted, 2.0, stream(3, "nodes"))
    flow = Flow(base, FittedFlow(ACTION_FIELD, coefficients, Plaquettes(), n_steps=4))
    with torch.no_grad():
        y, log_q = flow.sample_and_log_prob(500, stream(4, "y"))
    angles = plaquette_angles(y)
    log_w = 2.0 * torch.cos(angles).sum((1, 2)) + planted @ loop_sums(angles) - log_q
    alone = kish_ess((planted @ loop_sums(p)).numpy()) / 1500
    reached = kish_ess(log_w.numpy()) / 500
    assert alone < 0.75
    assert reached > 0.93


@pytest.mark.parametrize("seed", range(40))
def test_loops_without_flux_get_no_coupling(seed):
    """On 4 x 4 the largest loop is the whole lattice: its row of the equations is rounding."""
    generator = stream(seed, "x")
    links, _ = LoopSplitting((4, 4), beta=1.0).sample_and_log_prob(1024, generator)
    log_w = torch.randn(1024, generator=generator, dtype=torch.float64)
    couplings = effective_couplings(plaquette_angles(links), log_w)
    assert float(couplings[-1]) == 0.0
    assert float(couplings.abs().max()) < 1.0


def test_mistakes():
    with pytest.raises(InputError, match="extents"):
        LoopField().velocity(
            torch.zeros(1, 3, 8).double(), 0.0, torch.zeros(LoopField.size).double()
        )
