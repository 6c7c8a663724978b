"""Works from both sides, sound and not: x^2/2 in three dimensions against 2 x^2."""

import numpy as np
import pytest

from exact import autoregressive
from helmflow import bar, integrated_autocorrelation

SEEDS = range(120)


def chance(w_F, w_R, **keywords):
    return bar(w_F, w_R, **keywords).diagnostics.get("crooks_chance")


def chances(n, *, rho=0.0, temperature=1.0, factor=1.0, d=3, k=4.0, seeds=SEEDS):
    """Of works whose B has another temperature than it says, or an energy multiplied by a factor.

    Reverse averages of exp(-w) have no variance here, so no test of perturbations can be sound.
    """
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        x, y = (autoregressive(rng, d, n, rho).T for _ in range(2))
        y = y * np.sqrt(temperature / k)
        w_F, w_R = (
            sign * 0.5 * (factor * k - 1.0) * (z**2).sum(1) for sign, z in ((1, x), (-1, y))
        )
        g = tuple(integrated_autocorrelation(w).g for w in (w_F, w_R))
        found.append(chance(w_F, w_R, g=g))
    return np.array(found, dtype=np.float64)


@pytest.mark.parametrize(("n", "rho", "k"), [(500, 0.0, 4.0), (1000, 0.8, 4.0), (300, 0.0, 1.01)])
def test_sound_works_are_let_through(n, rho, k):
    """Of 120 at p = 0.02 eight or more have probability 0.4 %; one at 1e-4 has 1.2 %."""
    p = chances(n, rho=rho, k=k)
    assert (p < 0.02).sum() < 8
    assert p.min() > 1e-4


@pytest.mark.parametrize("change", [{"temperature": 1.5}, {"factor": 1.4}, {"temperature": 0.6}])
def test_works_of_other_states_are_not(change):
    p = chances(1000, seeds=range(20), **change)
    assert (p < 1e-4).sum() > 15


def test_a_trajectory_given_twice_says_no_more():
    rng = np.random.default_rng(0)
    w_F, w_R = rng.normal(0.7, 1.0, 400), rng.normal(0.5, 1.0, 400)
    twice = chance(np.tile(w_F, 2), np.tile(w_R, 2), g=(2.0, 2.0))
    assert twice == pytest.approx(chance(w_F, w_R), rel=0.1)


def test_nothing_is_known_without_overlap_or_scatter():
    rng = np.random.default_rng(1)
    assert chance(rng.normal(900.0, 1.0, 50), rng.normal(900.0, 1.0, 50)) is None
    assert chance(np.full(50, 1.0), np.full(50, -1.0)) is None


def test_infinite_works_share_nothing():
    rng = np.random.default_rng(2)
    w_F = np.append(rng.normal(0.5, 1.0, 500), np.inf)
    assert 0.0 <= chance(w_F, rng.normal(0.5, 1.0, 500)) <= 1.0


def test_works_that_contradict_each_other_have_a_bar_that_covers_both_sides():
    rng = np.random.default_rng(3)
    w_F, w_R = rng.normal(7.5, 3.0, 2000), -rng.normal(1.5, 3.0, 2000)  # another sign
    assert bar(w_F, w_R).stderr >= 0.5 * abs(w_F.mean() + w_R.mean()) - 1e-9
    constant = bar(np.full(50, 3.0), np.full(50, -2.0))
    assert constant.stderr >= 0.5
    assert bar(np.full(50, 3.0), np.full(50, -3.0)).stderr == pytest.approx(0.0, abs=1e-9)
