"""Exponentials and logarithms of SIMD values against numpy."""

import numba
import numpy as np

from helmflow.kernels.elementary import exp, log
from helmflow.kernels.simd import LANES, load, store


@numba.njit
def _apply(x, out, logarithm):
    for k in range(0, x.size, LANES):
        v = load(x, k)
        store(out, k, log(v) if logarithm else exp(v))


def apply(x, *, logarithm):
    padded = np.resize(x, -(-x.size // LANES) * LANES)
    out = np.empty_like(padded)
    _apply(padded, out, logarithm)
    return out[: x.size]


def test_exp_is_accurate_over_its_whole_range():
    x = np.linspace(-706, 708, 100_001)
    error = np.abs(apply(x, logarithm=False) / np.exp(x) - 1)
    assert np.max(error / (1 + np.abs(x))) < 4e-16


def test_log_is_accurate_over_its_whole_range_and_near_one():
    rng = np.random.default_rng(0)
    x = np.concatenate([np.exp(rng.uniform(-700, 700, 50_000)), rng.uniform(0.5, 2, 50_000)])
    error = np.abs(apply(x, logarithm=True) - np.log(x))
    assert np.max(error / np.maximum(np.abs(np.log(x)), 1e-300)) < 1e-15


def test_limits_are_infinite_or_zero_and_never_wrong_and_finite():
    special = np.array([np.inf, -np.inf, np.nan, 800.0, -800.0, 0.0])
    expected = np.array([np.inf, 0.0, np.inf, np.inf, 0.0, 1.0])
    np.testing.assert_array_equal(apply(special, logarithm=False), expected)
    special = np.array([np.inf, 0.0, np.nan, -1.0, 1e-320, 1.0])
    expected = np.array([np.inf, -np.inf, np.nan, -np.inf, -np.inf, 0.0])
    np.testing.assert_array_equal(apply(special, logarithm=True), expected)
