import math

import numpy as np
import pymbar.timeseries
import pytest

from assertions import assert_calibrated, assert_consistent
from exact import autoregressive
from helmflow.errors import InputError
from helmflow.estimators import integrated_autocorrelation


@pytest.mark.parametrize(("r", "n"), [(0.5, 4000), (0.9, 20_000)])
def test_autoregressive_series(rng, r, n):
    exact = 0.5 * (1.0 + r) / (1.0 - r)
    results = [integrated_autocorrelation(x) for x in autoregressive(rng, 100, n, r)]
    tau = np.array([result.tau_int for result in results])
    assert all(result.reliable for result in results)
    # Cutting the sum at the window loses a few percent; the spread must be the error quoted.
    assert tau.mean() == pytest.approx(exact, rel=0.05)
    z = (tau - tau.mean()) / np.array([result.stderr for result in results])
    assert_calibrated(z)


def test_white_noise_is_one_half(rng):
    result = integrated_autocorrelation(rng.normal(size=100_000))
    assert_consistent(result.tau_int, max(result.stderr, 0.003), 0.5, resolve=0.05)
    assert result.g == 2.0 * result.tau_int
    assert result.n_eff == pytest.approx(100_000 / result.g)


def test_replicas_are_one_long_chain(rng):
    x = autoregressive(rng, 8, 4000, 0.8)
    together = integrated_autocorrelation(x)
    assert together.tau_int == pytest.approx(4.5, rel=0.3)
    single = integrated_autocorrelation(x[0])
    assert together.stderr < 0.7 * single.stderr


def test_replicas_that_disagree_show(rng):
    x = rng.normal(size=(4, 2000)) + np.array([0.0, 0.0, 3.0, 3.0])[:, None]
    result = integrated_autocorrelation(x)
    assert result.tau_int > 100.0
    assert not result.reliable


def test_agrees_with_pymbar(rng):
    x = autoregressive(rng, 1, 20_000, 0.9)[0]
    theirs = pymbar.timeseries.statistical_inefficiency(x)
    assert integrated_autocorrelation(x).g == pytest.approx(theirs, rel=0.4)


def test_short_chain_is_not_believed(rng):
    assert not integrated_autocorrelation(autoregressive(rng, 1, 200, 0.95)[0]).reliable


def test_scale_and_offset_do_not_matter(rng):
    x = autoregressive(rng, 1, 2000, 0.7)[0]
    assert integrated_autocorrelation(1e5 + 1e-3 * x).tau_int == pytest.approx(
        integrated_autocorrelation(x).tau_int, rel=1e-5
    )


def test_anticorrelation_is_not_credited(rng):
    result = integrated_autocorrelation(autoregressive(rng, 1, 5000, -0.9)[0])
    assert result.tau_int == 0.5


@pytest.mark.parametrize("value", [0.0, 1e5, 0.1])
def test_constant_series_carries_no_information(value):
    result = integrated_autocorrelation(np.full(1000, value))
    assert (result.tau_int, result.n_eff, result.reliable) == (np.inf, 0.0, False)


@pytest.mark.parametrize(
    "series",
    [
        [1.0, 2.0, 3.0],
        [],
        np.zeros((2, 3, 4)),
        [1.0, 2.0, math.nan, 4.0],
        [1.0, 2.0, math.inf, 4.0],
        3.0,
    ],
)
def test_bad_series_raise(series):
    with pytest.raises(InputError, match=r"^series: expected"):
        integrated_autocorrelation(series)


def test_a_chain_that_sat_still_has_the_weight_of_one_value():
    rng = np.random.default_rng(5)
    x = rng.normal(size=400)
    moving = integrated_autocorrelation(x).g
    x[100:400] = x[100]
    assert integrated_autocorrelation(x).g == pytest.approx(300**2 / 400)
    common = np.where(rng.random(400) < 0.9, 0.0, rng.normal(size=400))
    assert integrated_autocorrelation(common).g < 2.0 * moving
