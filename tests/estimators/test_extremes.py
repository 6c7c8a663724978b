"""Huge, infinite, few and wrong works: an honest error bar or a readable message."""

import math

import numpy as np
import pytest

from exact import gaussian_works
from helmflow.errors import InputError
from helmflow.estimators import bar, fep, mbar, reweight, work_bounds

NAN, INF = math.nan, math.inf


def test_impossible_configurations_have_weight_zero(rng):
    w_F, w_R = gaussian_works(rng, 400, 400, delta_f=3.0, sigma=1.0)
    for value in (800.0, 1e5, 1e300, INF):
        spoiled = w_F.copy()
        spoiled[::4] = value
        # Three quarters of A's volume maps into B: exactly as if u_B were infinite elsewhere.
        assert fep(spoiled).value == pytest.approx(
            -math.log(np.exp(-w_F).sum() / 400 - np.exp(-w_F[::4]).sum() / 400), abs=1e-10
        )
        estimate = bar(spoiled, w_R)
        assert math.isfinite(estimate.value)
        assert 0.0 < estimate.stderr < 0.2
        assert estimate.diagnostics["n_infinite_forward"] == (100.0 if value > 1e100 else 0.0)


@pytest.mark.parametrize("sigma", [6.0, 8.0, 20.0, 100.0, 1e3])
def test_lack_of_overlap_shows_in_the_error(rng, sigma):
    w_F, w_R = gaussian_works(rng, 2000, 2000, delta_f=10.0, sigma=sigma)
    two_sided, one_sided = bar(w_F, w_R), fep(w_F)
    assert two_sided.diagnostics["overlap"] < 0.03
    assert abs(two_sided.value - 10.0) < 2.0 * two_sided.stderr < INF
    assert one_sided.diagnostics["pareto_k"] > 0.7
    assert abs(one_sided.value - 10.0) < 2.0 * one_sided.stderr < INF


@pytest.mark.parametrize("scale", [1e5, 1e10, 1e99])
def test_absurd_works_stay_finite(rng, scale):
    w_F, w_R = scale * rng.normal(size=50), scale * rng.normal(size=60)
    for estimate in (bar(w_F, w_R), bar(np.abs(w_F), np.abs(w_R)), bar(w_F, -w_F)):
        assert math.isfinite(estimate.value)
        assert estimate.stderr >= 0.0
        assert str(estimate)
    assert math.isfinite(fep(w_F).value)


def test_two_samples_a_side_are_enough_for_a_wide_error():
    estimate = bar([1.0, 2.0], [-0.5, -1.0])
    assert 0.1 < estimate.stderr < 10.0
    assert fep([1.0, 2.0]).stderr > 0.1


def test_states_without_common_samples_have_infinite_error(rng):
    x = np.concatenate([rng.normal(60.0 * i, 1.0, 50) for i in range(3)])
    estimate = mbar(0.5 * (x - 60.0 * np.arange(3)[:, None]) ** 2, [50, 50, 50])
    assert estimate.difference(0, 2).stderr == INF
    assert estimate.diagnostics["overlap_neighbours"] < 1e-6


def test_mbar_takes_impossible_configurations(rng):
    x = rng.normal(size=200)
    wall = np.where(x[:100] > 0.0, 0.5 * x[:100] ** 2, INF)
    u_kn = np.stack([0.5 * x**2, np.concatenate([wall, 0.5 * np.abs(x[100:]) ** 2])])
    estimate = mbar(u_kn, [100, 100])
    assert math.isfinite(estimate.f_k[1])
    assert estimate.diagnostics["n_infinite"] == np.isinf(wall).sum()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fep([1.0]), "w_F: expected at least 2 work values, got 1"),
        (lambda: fep([]), "w_F: expected at least 2 work values, got 0"),
        (lambda: fep([1.0, NAN]), "w_F: expected no NaN, got 1 NaN of 2"),
        (lambda: fep([1.0, -INF]), "w_F: expected works above -1e+100 kT, got -inf"),
        (lambda: fep([INF, INF]), "w_F: expected at least one finite work, got 2 x inf"),
        (lambda: fep([[1.0, 2.0]]), "w_F: expected 1 dimension(s), got shape (1, 2)"),
        (lambda: fep(["a", "b"]), "w_F: expected an array of numbers, got list"),
        (lambda: fep([1.0, 2.0], g=0.5), "g: expected a statistical inefficiency >= 1, got 0.5"),
        (lambda: fep([1.0, 2.0], g=NAN), "g: expected a statistical inefficiency >= 1, got nan"),
        (lambda: bar([1.0, 2.0], [1.0]), "w_R: expected at least 2 work values, got 1"),
        (lambda: bar([1.0, 2.0], [1.0, NAN]), "w_R: expected no NaN, got 1 NaN of 2"),
        (lambda: bar([1.0, 2.0], [1.0, 2.0], g=(1.0,)), "g: expected two inefficiencies"),
        (lambda: work_bounds([1.0, 2.0], [1.0]), "w_R: expected at least 2 work values, got 1"),
        (lambda: mbar([1.0, 2.0], [1, 1]), "u_kn: expected 2 dimension(s), got shape (2,)"),
        (lambda: mbar(np.zeros((2, 4)), [3, 2]), "n_k: expected at least 2 samples per state, 4"),
        (lambda: mbar(np.zeros((2, 4)), [3, 1]), "n_k: expected at least 2 samples per state, 4"),
        (lambda: mbar(np.zeros((2, 4)), [4]), "n_k: expected one integer for each of 2"),
        (lambda: mbar(np.zeros((1, 4)), [4]), "n_k: expected one integer for each of 2"),
        (lambda: mbar(np.full((2, 4), INF), [2, 2]), "u_kn: expected no -inf, and finite"),
        (lambda: mbar(np.full((2, 4), NAN), [2, 2]), "u_kn: expected no NaN, got 8 NaN of 8"),
        (lambda: mbar(np.zeros((2, 4)), [2, 2], g=[1.0]), "g: expected one inefficiency for"),
        (lambda: reweight([1.0], [0.0]), "observable: expected one value per weight (n = 1"),
        (lambda: reweight([1.0, INF], [0.0, 0.0]), "observable: expected finite values"),
    ],
)
def test_mistakes_give_one_readable_line(call, message):
    with pytest.raises(InputError) as error:
        call()
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_single_precision_warns(rng):
    with pytest.warns(UserWarning, match="w_F: float32 values are rounded"):
        fep(rng.normal(size=20).astype(np.float32))
