"""Heat bath leaves the theory unchanged and reaches it."""

import math

import numpy as np
import pytest
import torch

from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.energies.gauge_exact import exact_gauge
from helmflow.errors import InputError
from helmflow.manifolds.links import plaquette_angles, topological_charge
from helmflow.samplers.heat_bath import heat_bath_sweep
from helmflow.streams import stream


def test_one_sweep_keeps_exact_samples_exact():
    generator = stream(0, "x")
    x, _ = LoopSplitting((4, 8), beta=1.5).sample_and_log_prob(10_000, generator)
    y = heat_bath_sweep(x, 1.5, generator)
    exact = exact_gauge(1, 1.5, 32)
    plaquette = torch.cos(plaquette_angles(y)).mean((1, 2)).numpy()
    charge = topological_charge(y).round().numpy() ** 2
    for values, mean in ((plaquette, exact.plaquette), (charge, exact.charge_squared)):
        assert abs(np.mean(values) - mean) < 5.0 * np.std(values) / math.sqrt(10_000)
    assert bool(((y - x).abs() > 1e-9).all())


def test_mistakes():
    with pytest.raises(InputError, match="even"):
        heat_bath_sweep(torch.zeros(1, 2, 5, 4, dtype=torch.float64), 1.0, stream(0, "x"))
