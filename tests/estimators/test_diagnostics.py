import math

import numpy as np
import pytest
from arviz_stats.base import array_stats

from assertions import assert_consistent
from exact import LOGNORMAL, gaussian_works
from helmflow.errors import InputError
from helmflow.estimators import (
    acceptance_error,
    acceptance_rate,
    forward_ess,
    kish_ess,
    log_mean_exp,
    pareto_k,
    rejection_tau,
    work_bounds,
)

BATCHES, SIZE = 40, 20_000


def batch_mean(function, case, rng) -> tuple[float, float]:
    values = np.array([function(case.sample(rng, SIZE)) for _ in range(BATCHES)])
    return float(values.mean()), float(values.std(ddof=1)) / math.sqrt(BATCHES)


@pytest.mark.parametrize("case", LOGNORMAL[:4], ids=lambda case: f"s2={case.s2}")
def test_lognormal_weights(case, rng):
    value, stderr = batch_mean(lambda log_w: kish_ess(log_w) / SIZE, case, rng)
    assert_consistent(value, stderr, case.ess_fraction, resolve=0.02)
    value, stderr = batch_mean(acceptance_rate, case, rng)
    assert_consistent(value, stderr, case.acceptance, resolve=0.005)
    value, stderr = batch_mean(rejection_tau, case, rng)
    assert_consistent(value, stderr, case.tau_acc, resolve=0.1 * case.tau_acc)


def test_the_error_of_the_acceptance_is_calibrated(rng):
    """Over 300 replicas of lognormal weights, where it is far from that of counted steps."""
    sigma, n = 0.3, 400
    exact = math.erfc(sigma / 2.0)
    rows = sigma * rng.standard_normal((300, n))
    z = [(acceptance_rate(row) - exact) / acceptance_error(row) for row in rows]
    assert abs(np.mean(z)) < 5.0 / math.sqrt(300)
    assert 0.85 < np.std(z) < 1.18
    assert acceptance_error(rows[0]) < 0.5 * math.sqrt(exact * (1.0 - exact) / n)


def test_both_sides_see_the_same_ess(rng):
    case = LOGNORMAL[2]
    # Under the target log w ~ N(+s2/2, s2).
    on_target = [forward_ess(case.sample(rng, SIZE) + case.s2) / SIZE for _ in range(BATCHES)]
    stderr = float(np.std(on_target, ddof=1)) / math.sqrt(BATCHES)
    assert_consistent(float(np.mean(on_target)), stderr, case.ess_fraction, resolve=0.02)


def test_only_the_target_side_sees_a_missing_mode(rng):
    """p = (N(-a, 1) + N(a, 1))/2 and q = N(a, 1): half of the target is never proposed."""
    a, n = 10.0, 10_000

    def log_w(x):
        return np.logaddexp(-0.5 * (x + a) ** 2, -0.5 * (x - a) ** 2) + 0.5 * (x - a) ** 2

    proposals = a + rng.normal(size=n)
    targets = rng.choice([-a, a], size=n) + rng.normal(size=n)
    assert kish_ess(log_w(proposals)) / n == pytest.approx(1.0, abs=1e-10)
    assert pareto_k(log_w(proposals)) < 0.7
    assert log_mean_exp(log_w(proposals)) == pytest.approx(0.0, abs=1e-10)  # exact: ln 2
    assert forward_ess(log_w(targets)) / n < 1e-10


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_shape_of_power_law_weights(k, rng):
    values = np.array([pareto_k(-k * np.log(rng.random(5000))) for _ in range(60)])
    # The prior pulls the shape towards 1/2 with the weight of 10 of the 212 tail samples.
    prior = 10.0 / (math.floor(3.0 * math.sqrt(5000)) + 10.0)
    expected = k + prior * (0.5 - k)
    assert_consistent(values.mean(), values.std() / math.sqrt(60), expected, resolve=0.1)
    with pytest.raises(AssertionError, match="z ="):  # the sign arviz expects, gone wrong
        assert_consistent(-values.mean(), values.std() / math.sqrt(60), expected, resolve=0.1)


def test_pareto_shape_is_that_of_smoothed_importance_sampling(rng):
    log_w = rng.normal(size=1000)
    assert pareto_k(log_w) == pytest.approx(float(array_stats.psislw(-log_w)[1]), rel=1e-9)


def test_degenerate_weights():
    assert math.isnan(pareto_k(np.zeros(25)))
    assert pareto_k(np.zeros(100)) == 0.0
    assert pareto_k(np.where(np.arange(100) % 2, 0.0, -math.inf)) == 0.0
    assert pareto_k(1e-15 * np.arange(100.0)) == 0.0
    assert pareto_k(1e5 * np.arange(100.0)) == math.inf
    heavy = np.random.default_rng(0).pareto(0.8, size=2000)
    assert pareto_k(np.log1p(0.019 * heavy / heavy.max())) == 0.0  # of no weight, however shaped
    assert pareto_k(np.log1p(20.0 * heavy / heavy.max())) > 0.7
    for log_w in (np.zeros(10), np.full(10, 1e5), np.zeros(1)):
        assert kish_ess(log_w) == pytest.approx(log_w.size)
        assert forward_ess(log_w) == pytest.approx(log_w.size)
        assert acceptance_rate(log_w) == pytest.approx(1.0)
        assert rejection_tau(log_w) == pytest.approx(0.5)
    one_of_ten = np.where(np.arange(10) == 3, 1e5, -1e5)
    assert kish_ess(one_of_ten) == pytest.approx(1.0)
    assert acceptance_rate(one_of_ten) == pytest.approx(0.0, abs=1e-12)
    assert rejection_tau(one_of_ten) == pytest.approx(9.5)
    assert forward_ess([0.0, -math.inf]) == 0.0


def test_weights_that_end_before_they_grow_have_no_heavy_tail(rng):
    # a flat histogram with an edge: the tail that a fit sees in a few of them is noise
    shapes = np.array([pareto_k(0.1 * rng.standard_normal(400)) for _ in range(200)])
    assert (shapes < 0.3).all()
    # a tail of shape k has reach: none of these is cut
    tails = [pareto_k(-0.8 * np.log(rng.random(2000))) for _ in range(100)]
    assert np.mean(tails) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    "function", [kish_ess, forward_ess, pareto_k, acceptance_rate, rejection_tau]
)
@pytest.mark.parametrize(
    "log_w", [[], [0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf], [[0.0, 1.0]]]
)
def test_bad_weights_raise(function, log_w):
    with pytest.raises(InputError, match=r"^log_w: expected"):
        function(log_w)


def test_bounds_bracket_the_answer(rng):
    w_F, w_R = gaussian_works(rng, 4000, 3000, delta_f=5.0, sigma=1.0)
    lower, upper = work_bounds(w_F, w_R, g=(1.0, 4.0))
    assert_consistent(lower.value, lower.stderr, 4.5, resolve=0.25)
    assert_consistent(upper.value, upper.stderr, 5.5, resolve=0.25)
    assert lower.n_eff == 750.0
    assert work_bounds([1.0, math.inf], w_R)[1].value == math.inf
