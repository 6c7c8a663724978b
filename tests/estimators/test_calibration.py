"""Error bars mean what they say: 300 replicas of each estimator, and bars that must fail."""

import numpy as np
import pytest

from assertions import assert_calibrated
from exact import autoregressive, gaussian_works
from helmflow.estimators import bar, fep, integrated_autocorrelation, mbar, reweight

N_REPLICAS = 300
DELTA_F = 2.0


def z_scores(replica) -> np.ndarray:
    return np.array([replica(i) for i in range(N_REPLICAS)])


@pytest.mark.parametrize(("n_F", "n_R", "sigma"), [(200, 200, 1.0), (60, 300, 2.5)])
def test_bar(rng, n_F, n_R, sigma):
    def replica(_):
        estimate = bar(*gaussian_works(rng, n_F, n_R, delta_f=DELTA_F, sigma=sigma))
        return (estimate.value - DELTA_F) / estimate.stderr

    z = z_scores(replica)
    assert_calibrated(z)
    for wrong in (0.5, 2.0):
        with pytest.raises(AssertionError, match="z ="):
            assert_calibrated(wrong * z)


def test_fep(rng):
    def replica(_):
        w_F, _ = gaussian_works(rng, 400, 2, delta_f=DELTA_F, sigma=0.7)
        estimate = fep(w_F)
        return (estimate.value - DELTA_F) / estimate.stderr

    assert_calibrated(z_scores(replica))


def test_bar_of_correlated_works_needs_g(rng):
    r, sigma, n = 0.8, 1.0, 400
    noise = sigma * autoregressive(rng, 2 * N_REPLICAS, n, r)
    plain = []

    def replica(i):
        w_F = DELTA_F + 0.5 * sigma**2 + noise[2 * i]
        w_R = -DELTA_F + 0.5 * sigma**2 + noise[2 * i + 1]
        g = tuple(integrated_autocorrelation(w).g for w in (w_F, w_R))
        estimate = bar(w_F, w_R, g=g)
        plain.append((estimate.value - DELTA_F) / bar(w_F, w_R).stderr)
        return (estimate.value - DELTA_F) / estimate.stderr

    assert_calibrated(z_scores(replica))
    with pytest.raises(AssertionError, match="z ="):
        assert_calibrated(np.array(plain))


def test_mbar(rng):
    mean, n_k = np.array([0.0, 1.0, 2.0]), [80, 50, 120]

    def replica(_):
        x = np.concatenate([rng.normal(m, 1.0, n) for m, n in zip(mean, n_k, strict=True)])
        u_kn = 0.5 * (x - mean[:, None]) ** 2 + np.array([0.0, 1.0, DELTA_F])[:, None]
        estimate = mbar(u_kn, n_k).difference(0, 2)
        return (estimate.value - DELTA_F) / estimate.stderr

    assert_calibrated(z_scores(replica))


def test_reweighting(rng):
    def replica(_):
        x = rng.normal(size=400)
        estimate = reweight(x, 0.5 * x)  # N(0, 1) tilted to N(1/2, 1)
        return (estimate.value - 0.5) / estimate.stderr

    assert_calibrated(z_scores(replica))
