"""Weighted samples at their extremes, and what is known of their averages."""

import numpy as np
import pytest

from helmflow.results import Observable
from helmflow.skeleton.checks import observables_against_exact
from helmflow.skeleton.weighted import expected_acceptance


@pytest.mark.parametrize("n", [2, 300, 8192])
def test_acceptance_of_collapsed_and_of_equal_weights(n):
    log_w = np.zeros(n)
    equal = expected_acceptance(log_w)
    assert equal.value == pytest.approx(1.0, abs=1e-12)
    assert equal.stderr == pytest.approx(0.0, abs=1e-12)
    log_w[n // 2] = 1000.0
    one = expected_acceptance(log_w)
    assert 0.0 <= one.value < 1e-9
    assert 0.0 <= one.stderr < 1.0
    assert np.isfinite(one.stderr)


def test_observables_against_exact():
    assert observables_against_exact([Observable("x", 1.0, 0.1)]) == []
    rows = [Observable("x", 1.0, 0.1, exact=1.1), Observable("y", 2.0, 0.1, exact=1.5)]
    (check,) = observables_against_exact(rows)
    assert not check.passed
    assert check.severity == "soft"
    assert check.value == pytest.approx(5.0)
    assert "of y" in check.explanation
    (broken,) = observables_against_exact([Observable("x", 1.0, 0.1, exact=2.0)])
    assert broken.severity == "hard"
