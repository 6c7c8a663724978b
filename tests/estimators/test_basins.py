"""Probabilities and free-energy differences of regions: exact values, calibrated errors."""

import math

import numpy as np
import pytest

from helmflow.errors import InputError
from helmflow.estimators.basins import region_difference, region_probability

STAY = (0.9, 0.8)
"""Of a chain that jumps between two regions: it is in the first for 2/3 of the time."""


def chains(rng, n_chains=4, n=1500):
    """Which region (chains, n) the chain is in, started from its stationary distribution."""
    state = (rng.random(n_chains) > 2.0 / 3.0).astype(int)
    rows = []
    for _ in range(n):
        rows.append(state)
        jump = rng.random(n_chains) > np.where(state == 0, *STAY)
        state = np.where(jump, 1 - state, state)
    return np.stack(rows, 1)


def test_errors_are_calibrated_for_correlated_samples(rng):
    """Over 300 replicas deviations are standard normal; counting alone would be off twofold."""
    z_difference, z_probability, naive = [], [], []
    for _ in range(300):
        state = chains(rng)
        flat = np.zeros(state.shape)
        found = region_difference(state == 0, state == 1, flat)
        z_difference.append((found.value - math.log(2.0)) / found.stderr)
        p = region_probability(state == 0, flat)
        z_probability.append((p.value - 2.0 / 3.0) / p.stderr)
        naive.append((p.value - 2.0 / 3.0) / math.sqrt(2.0 / 9.0 / state.size))
    for z in (z_difference, z_probability):
        assert abs(np.mean(z)) < 5.0 / math.sqrt(300)
        assert 0.85 < np.std(z) < 1.18
    assert np.std(naive) > 1.8


def test_errors_are_calibrated_for_weighted_samples(rng):
    """Weights that vary within the regions enter the error, too."""
    z, without = [], []
    for _ in range(300):
        noise = rng.standard_normal((2, 400))
        first = rng.random((2, 400)) < 0.5
        log_w = np.where(first, 1.0, 0.3) * noise
        found = region_difference(first, ~first, log_w)
        exact = 0.5 * (1.0 - 0.3**2)  # ln of the ratio of mean weights
        z.append((found.value - exact) / found.stderr)
        without.append((found.value - exact) / math.sqrt(4.0 / 800))
    assert abs(np.mean(z)) < 5.0 / math.sqrt(300)
    assert 0.85 < np.std(z) < 1.18
    assert np.std(without) > 1.2


def test_weights_turn_one_density_into_another(rng):
    """A bias of V kT on the first region is undone by log weights of V there."""
    state = chains(rng, n=4000)
    log_w = np.where(state == 0, 1.3, 0.0) - 40.0
    found = region_difference(state == 0, state == 1, log_w)
    assert abs(found.value - math.log(2.0) - 1.3) < 5.0 * found.stderr
    p = region_probability(state == 1, log_w)
    assert abs(p.value - 1.0 / (1.0 + 2.0 * math.exp(1.3))) < 5.0 * p.stderr


def test_mistakes():
    inside = np.ones((2, 50), dtype=bool)
    with pytest.raises(InputError, match="basins"):
        region_difference(inside, ~inside, np.zeros((2, 50)))
    with pytest.raises(InputError, match="inside"):
        region_probability(inside[:1], np.zeros((2, 50)))
