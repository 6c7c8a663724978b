import numpy as np
import pytest

from assertions import assert_calibrated
from helmflow.errors import InputError
from helmflow.estimators.differences import reweighted_difference
from helmflow.estimators.reweighting import reweight


def test_equals_the_difference_of_two_averages():
    rng = np.random.default_rng(0)
    o, a, b = rng.normal(size=(3, 2000))
    found = reweighted_difference(o, a, o**2, b)
    assert found.value == pytest.approx(reweight(o**2, b).value - reweight(o, a).value)
    one = reweighted_difference(np.zeros(2000), a, o, b)
    assert one.stderr == pytest.approx(reweight(o, b).stderr)


def test_what_fluctuates_together_cancels():
    rng = np.random.default_rng(1)
    o, a = rng.normal(size=(2, 1000))
    assert reweighted_difference(o, a, o + 1.0, a).stderr < 1e-12


def test_errors_cover():
    """Mean shift of a unit normal reweighted to means -+0.2: exactly 0.4."""
    rng, z = np.random.default_rng(2), []
    for _ in range(300):
        x = rng.normal(size=500)
        found = reweighted_difference(x, -0.2 * x, x, 0.2 * x)
        z.append((found.value - 0.4) / found.stderr)
    assert_calibrated(np.array(z))


def test_lengths_must_agree():
    with pytest.raises(InputError, match="observable_b: expected 3 values, as for a"):
        reweighted_difference(np.ones(3), np.zeros(3), np.ones(4), np.zeros(4))
    with pytest.raises(InputError, match="observable_a: expected one value per weight"):
        reweighted_difference(np.ones(2), np.zeros(3), np.ones(3), np.zeros(3))
