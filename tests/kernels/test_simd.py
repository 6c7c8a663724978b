"""The SIMD value type against numpy, lane by lane."""

import numba
import numpy as np

from helmflow.kernels import simd
from helmflow.kernels.simd import (
    LANES,
    any_lane,
    exp2,
    item,
    largest_lane,
    load,
    load_rows,
    nearest_integer,
    select,
    splat,
    sqrt,
    store,
    store_rows,
    transpose,
)


@numba.njit
def _unary(x, out, which):
    for k in range(0, x.size, LANES):
        v = load(x, k)
        if which == 0:
            store(out, k, exp2(v))
        elif which == 1:
            store(out, k, sqrt(v))
        elif which == 2:
            store(out, k, nearest_integer(v))
        else:
            store(out, k, -v)


@numba.njit
def _arithmetic(x, y, s, out):
    a = load(x, 0)
    b = load(y, 0)
    total = splat(0.0)
    total += a * b - s / a + (b - 2.0) / s
    total -= s * b
    total *= a + 1
    store(out, 0, select(a < b, total, -1.0))
    store(out, LANES, select(s < a, a, b))
    return any_lane(a < b), any_lane(a < s), largest_lane(a), item(y, 3)


@numba.njit
def _transpose(x, out):
    store_rows(out, 0, LANES, transpose(load_rows(x, 3, 10)))


def _apply(which: int, x: np.ndarray) -> np.ndarray:
    padded = np.resize(x, -(-x.size // LANES) * LANES)
    out = np.empty_like(padded)
    _unary(padded, out, which)
    return out[: x.size]


def test_exp2_is_accurate_to_a_few_ulp_over_its_whole_range():
    x = np.concatenate([np.linspace(-1021, 1023, 200_001), np.linspace(-1, 1, 20_001)])
    assert np.max(np.abs(_apply(0, x) / np.exp2(x) - 1)) < 5e-16


def test_exp2_is_exact_at_integers():
    x = np.arange(-1021.0, 1024.0)
    assert np.array_equal(_apply(0, x), np.exp2(x))


def test_rows_are_loaded_transposed_and_stored():
    x = np.random.default_rng(2).normal(size=3 + 10 * LANES)
    out = np.zeros(LANES * LANES)
    _transpose(x, out)
    expected = np.stack([x[3 + 10 * k : 3 + 10 * k + LANES] for k in range(LANES)], axis=1)
    assert np.array_equal(out.reshape(LANES, LANES), expected)


def test_sqrt_rounding_and_negation_agree_with_numpy():
    x = np.random.default_rng(0).uniform(0, 50, 64)
    halves = np.arange(-4, 4) + 0.5
    assert np.array_equal(_apply(1, x), np.sqrt(x))
    assert np.array_equal(_apply(2, halves), np.round(halves))
    assert np.array_equal(_apply(3, x), -x)


def test_arithmetic_comparison_and_selection_with_vectors_and_scalars():
    rng = np.random.default_rng(1)
    x, y, s = rng.uniform(0.5, 2, LANES), rng.uniform(0.5, 2, LANES), 0.7
    out = np.empty(2 * LANES)
    some_less, some_below, largest, scalar = _arithmetic(x, y, s, out)
    expected = (x * y - s / x + (y - 2.0) / s - s * y) * (x + 1)
    np.testing.assert_allclose(out[:LANES], np.where(x < y, expected, -1.0), rtol=1e-13)
    np.testing.assert_array_equal(out[LANES:], np.where(s < x, x, y))
    assert (some_less, some_below) == ((x < y).any(), (x < s).any())
    assert (largest, scalar) == (x.max(), y[3])


def test_comparison_with_nan_is_false():
    x = np.full(LANES, np.nan)
    out = np.empty(2 * LANES)
    some_less, some_below, _, _ = _arithmetic(x, np.ones(LANES), 1.0, out)
    assert not some_less
    assert not some_below


def test_lanes_is_the_width_every_kernel_was_written_for():
    assert simd.LANES == 8
