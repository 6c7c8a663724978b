"""The analytic sampler of U(1): exact density of what it draws, right charges, holonomies."""

import math

import numpy as np
import pytest
import torch

from helmflow.densities.loop_splitting import LARGEST_COUPLING, LoopSplitting
from helmflow.densities.von_mises import draw_von_mises
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.gauge_exact import charge_distribution, exact_gauge
from helmflow.errors import InputError
from helmflow.estimators.fep import fep
from helmflow.manifolds.links import topological_charge
from helmflow.streams import stream


@pytest.mark.parametrize(("shape", "beta"), [((4, 4), 1.0), ((8, 4), 3.0), ((16, 16), 7.0)])
def test_weights_are_constant(shape, beta):
    density = LoopSplitting(shape, beta=beta)
    x, log_q = density.sample_and_log_prob(2000, stream(0, "x"))
    torch.testing.assert_close(density.log_prob(x), log_q, rtol=0, atol=1e-11)
    work = (U1Wilson(shape, beta=beta)(x) + log_q).numpy()
    estimate = fep(work)
    exact = exact_gauge(1, beta, math.prod(shape))
    assert estimate.diagnostics["ess_fraction"] > 0.9999
    assert abs(-estimate.value - exact.log_z) < 2e-4
    charge = topological_charge(x).round().numpy()
    z = (np.mean(charge**2) - exact.charge_squared) / (np.std(charge**2) / math.sqrt(2000))
    assert abs(z) < 5.0


def test_charges_follow_their_distribution():
    x, _ = LoopSplitting((8, 8), beta=2.0).sample_and_log_prob(20_000, stream(1, "x"))
    charge = topological_charge(x).round().abs().numpy()
    expected = charge_distribution(2.0, 64, 3) * np.array([1.0, 2.0, 2.0, 2.0])
    for q, probability in enumerate(expected):
        z = (np.mean(charge == q) - probability) / math.sqrt(probability / 20_000)
        assert abs(z) < 5.0


def test_density_is_blind_to_gauges_and_periods():
    density = LoopSplitting((4, 8), beta=2.0)
    x, log_q = density.sample_and_log_prob(50, stream(2, "x"))
    alpha = 6.0 * torch.rand(50, 4, 8, generator=stream(3, "a"), dtype=torch.float64)
    turned = x + torch.stack([alpha - alpha.roll(-1, axis) for axis in (1, 2)], 1)
    torch.testing.assert_close(density.log_prob(turned), log_q, rtol=0, atol=1e-10)
    shifted = x + 2.0 * math.pi * torch.randint(-2, 3, x.shape, generator=stream(4, "n")).to(
        x.dtype
    )
    torch.testing.assert_close(density.log_prob(shifted), log_q, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kappa", [0.0, 0.3, 5.0, 60.0])
def test_von_mises_draws(kappa):
    x = draw_von_mises(torch.full((40_000,), kappa, dtype=torch.float64), stream(5, "v"))
    exact = float(torch.special.i1e(torch.tensor(kappa)) / torch.special.i0e(torch.tensor(kappa)))
    for values, mean in ((x.cos(), exact), (x.sin(), 0.0)):
        assert abs(float(values.mean()) - mean) < 5.0 * float(values.std()) / 200.0
    assert float(x.abs().max()) <= math.pi


def test_mistakes():
    with pytest.raises(InputError, match="powers of two"):
        LoopSplitting((6, 8), beta=1.0)
    with pytest.raises(InputError, match="beta"):
        LoopSplitting((8, 8), beta=-1.0)
    with pytest.raises(InputError, match="at most 100"):
        LoopSplitting((8, 8), beta=101.0)


def test_largest_coupling():
    """Still nearly exact where couplings end."""
    shape, beta = (8, 8), LARGEST_COUPLING
    x, log_q = LoopSplitting(shape, beta=beta).sample_and_log_prob(1000, stream(6, "x"))
    estimate = fep((U1Wilson(shape, beta=beta)(x) + log_q).numpy())
    assert estimate.diagnostics["ess_fraction"] > 0.9995
    assert abs(-estimate.value - exact_gauge(1, beta, 64).log_z) < 5.0 * estimate.stderr
