"""Where series have settled."""

import numpy as np
import pytest

from exact import autoregressive
from helmflow import equilibration
from helmflow.errors import InputError


def series(seed, rho=0.8, n=3000, size=0.0, decay=80.0):
    rows = autoregressive(np.random.default_rng(seed), 1, n, rho)
    return rows[0] + size * np.exp(-np.arange(n) / decay)


@pytest.mark.parametrize("size", [5.0, 20.0])
def test_a_drift_is_left_out_with_little_else(size):
    found = [equilibration(series(seed, size=size)) for seed in range(20)]
    starts = np.array([e.start for e in found])
    # the drift sinks to one standard deviation after 80 ln(size) steps; starts are 61 apart
    assert (starts > 80.0 * np.log(size) - 61).all()
    assert (starts < 80.0 * np.log(size / 0.02) + 61).all()
    assert np.mean([e.n_eff / e.n_eff_all for e in found]) > 2.0


def test_of_a_stationary_series_most_is_kept():
    found = [equilibration(series(seed)) for seed in range(20)]
    assert np.mean([e.start for e in found]) < 0.15 * 3000
    assert all(e.n_eff >= e.n_eff_all for e in found)


def test_a_series_that_never_settles_loses_most_of_itself():
    found = equilibration(np.linspace(0.0, 30.0, 1000) + series(0, n=1000))
    assert found.start > 500 or found.n_eff < 20.0


def test_what_is_refused():
    with pytest.raises(InputError, match="20 values"):
        equilibration(np.zeros(10))
    with pytest.raises(InputError, match="finite"):
        equilibration([1.0] * 30 + [np.inf])
