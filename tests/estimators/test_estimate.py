import math

import pytest

from helmflow.estimators import Estimate, format_uncertainty


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (-25.163092, 6.1e-5, "-25.16309(6)"),
        (9.29141, 3.2e-4, "9.2914(3)"),
        (-12.34, 0.05, "-12.34(5)"),
        (1.23456, 0.0123, "1.235(12)"),
        (1.23456, 0.0196, "1.23(2)"),
        (1.0, 0.096, "1.00(10)"),
        (12.34, 1.23, "12.3(1.2)"),
        (12.34, 3.2, "12(3)"),
        (1234.5, 56.0, "1234(56)"),
        (5.0, 0.0, "5 ± 0"),
        (5.0, math.inf, "5 ± inf"),
        (5.0, math.nan, "5 ± nan"),
        (0.0, 1e300, "0 ± 1e+300"),
    ],
)
def test_error_decides_the_digits_of_the_value(value, stderr, text):
    assert format_uncertainty(value, stderr) == text


def test_prints_value_error_unit_and_method():
    assert str(Estimate(-12.34, 0.05, 100.0, "bar")) == "-12.34(5) kT (bar)"
    assert str(Estimate(0.5, 0.01, 100.0, "reweighting", unit="")) == "0.500(10) (reweighting)"


def test_difference_of_independent_estimates():
    difference = Estimate(3.0, 0.3, 50.0, "bar") - Estimate(1.0, 0.4, 20.0, "fep")
    assert difference.value == 2.0
    assert difference.stderr == pytest.approx(0.5)
    assert difference.n_eff == 20.0
    assert difference.method == "bar-fep"


def test_is_immutable():
    with pytest.raises(AttributeError):
        Estimate(0.0, 1.0, 1.0, "fep").value = 1.0
