"""Steps between topological sectors: charge of the step, and what it leaves unchanged."""

import math

import numpy as np
import pytest
import torch

from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.gauge_exact import exact_gauge
from helmflow.errors import InputError
from helmflow.manifolds.links import plaquette_angles, topological_charge, wrapped
from helmflow.samplers.heat_bath import heat_bath_sweep
from helmflow.samplers.winding import unit_flux, winding_step
from helmflow.streams import stream


@pytest.mark.parametrize("shape", [(4, 4), (4, 6), (5, 3)])
def test_unit_flux(shape):
    x = unit_flux(shape)[None]
    flux = wrapped(plaquette_angles(x))
    torch.testing.assert_close(flux, torch.full_like(flux, 2.0 * math.pi / math.prod(shape)))
    assert float(topological_charge(x)) == pytest.approx(1.0, abs=1e-12)


def test_exact_samples_stay_exact():
    x, _ = LoopSplitting((4, 8), beta=3.0).sample_and_log_prob(20_000, stream(0, "x"))
    y, taken = winding_step(x, U1Wilson((4, 8), beta=3.0), stream(1, "step"))
    exact = exact_gauge(1, 3.0, 32)
    charge = topological_charge(y).round().numpy() ** 2
    plaquette = torch.cos(plaquette_angles(y)).mean((1, 2)).numpy()
    for values, mean in ((plaquette, exact.plaquette), (charge, exact.charge_squared)):
        assert abs(np.mean(values) - mean) < 5.0 * np.std(values) / math.sqrt(20_000)
    assert 0.2 < float(taken.double().mean()) < 0.8
    change = (topological_charge(y) - topological_charge(x)).round()
    assert float(change[~taken].abs().max()) == 0.0
    assert float(change[taken].abs().max()) >= 1.0


def test_heat_bath_thaws():
    """From charge zero, heat bath at beta = 6 keeps it; with winding <Q^2> becomes exact."""
    u, generator = U1Wilson((8, 8), beta=6.0), stream(2, "x")
    cold = torch.zeros(400, 2, 8, 8, dtype=torch.float64)
    frozen = moved = cold
    for _ in range(25):
        frozen = heat_bath_sweep(frozen, 6.0, generator)
        moved, _ = winding_step(heat_bath_sweep(moved, 6.0, generator), u, generator)
    exact = exact_gauge(1, 6.0, 64).charge_squared
    squares = topological_charge(moved).round().numpy() ** 2
    assert abs(squares.mean() - exact) < 5.0 * squares.std() / 20.0
    assert float(topological_charge(frozen).square().mean()) < 0.5 * exact


def test_mistakes():
    x = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    x[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="finite"):
        winding_step(x, U1Wilson((4, 4), beta=1.0), stream(0, "x"))
    broken, taken = winding_step(
        torch.zeros_like(x), lambda y: y.sum((1, 2, 3)) * torch.nan, stream(0, "x")
    )
    assert not bool(taken.any())
    assert float(broken.abs().max()) == 0.0
