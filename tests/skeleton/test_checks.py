"""Limits that apply to all comparisons of a run together, known values, numbers that are none."""

import math

import numpy as np
import pytest

from helmflow.estimators.estimate import Estimate
from helmflow.results import Check, Cost
from helmflow.settings import Settings
from helmflow.skeleton.checks import (
    at_most,
    comparison,
    failed_by_chance,
    jointly,
    pareto_tail,
    scatter,
)
from helmflow.skeleton.conclude import conclude
from helmflow.skeleton.quantity import Finding, Quantity
from helmflow.system import Reference


def concluded(value, stderr, *, checks=(), reference=None, target_error=None, one_sided=False):
    known = () if reference is None else (Reference("free_energy_difference", *reference, "", ""),)
    finding = Finding(Estimate(value, stderr, 99.0, "x"), tuple(checks), {}, one_sided=one_sided)
    quantity = Quantity("free_energy_difference", "x", references=known)
    settings = Settings(target_error=target_error)
    return conclude("x", settings, Cost(0.0, 0.0, 0), quantity, finding)


def severities(*sigmas):
    checks = jointly([comparison(f"{k}", off) for k, off in enumerate(sigmas)])
    return ["passed" if check.passed else check.severity for check in checks]


def test_the_limit_of_a_comparison_grows_with_their_number():
    assert severities(2.3) == ["passed"]
    assert severities(2.4) == ["soft"]
    assert severities(4.0) == ["hard"]
    assert severities(3.0, *[0.0] * 9) == ["passed"] * 10
    assert severities(4.0, *[0.0] * 9) == ["soft"] + ["passed"] * 9
    assert severities(5.0, *[0.0] * 9) == ["hard"] + ["passed"] * 9
    assert severities(math.nan) == ["hard"]
    other = at_most("overlap", 1.0, 2.0, "")
    assert jointly([other, comparison("a", 2.3)]) == jointly(
        jointly([other, comparison("a", 2.3)])
    )


def test_false_alarms_of_correlated_comparisons_stay_below_their_limit():
    z = np.random.default_rng(0).normal(size=(2000, 9))
    correlated = 0.6 * z[:, :8] + 0.8 * z[:, 8:]
    for deviations in (z[:, :8], correlated):
        lost = sum("soft" in severities(*row) for row in np.abs(deviations))
        assert lost < 0.02 * 2000 + 3.0 * math.sqrt(0.02 * 2000)


def test_a_scatter_is_told_in_standard_errors():
    assert scatter("scatter", 9.0, 1.0, "").value == pytest.approx(3.0)
    assert scatter("scatter", 0.0, 3.0, "").value == 0.0
    assert scatter("scatter", 1e5, 3.0, "").severity == "hard"


def test_only_soft_comparisons_ask_for_more_samples():
    soft = comparison("a", 3.0)
    assert failed_by_chance([soft])
    assert not failed_by_chance([comparison("a", 1.0)])
    assert not failed_by_chance([soft, comparison("b", 9.0)])
    assert not failed_by_chance([soft, Check("overlap", 0.0, 0.03, False)])


def test_a_known_value_more_than_four_errors_away_is_no_result():
    near = concluded(1.0, 0.01, reference=(1.039, 0.0, "system"))
    far = concluded(1.0, 0.01, reference=(1.041, 0.0, "system"))
    wide = concluded(1.0, 0.01, reference=(1.041, 0.02, "system"))
    unknown = concluded(1.0, 0.01, reference=(2.0, None, "system"))
    assert [r.grade for r in (near, far, wide, unknown)] == ["A", "F", "A", "A"]
    assert "known value" in far.reason
    # what is exact up to tables and rounding has no error to speak of
    assert concluded(1.0, 0.0, reference=(1.0 + 1e-13, 0.0, "system")).grade == "A"
    assert concluded(1.0, 1e-9, reference=(1.00001, 0.0, "system"), target_error=0.1).grade == "A"


@pytest.mark.parametrize(("value", "stderr"), [(math.nan, 1.0), (1.0, math.inf), (1.0, math.nan)])
def test_numbers_that_are_not_finite_are_no_result(value, stderr):
    result = concluded(value, stderr, one_sided=True)
    assert result.grade == "F"


def test_the_limit_of_the_tail_knows_how_many_weights_there_are():
    tails = [pareto_tail(0.65, n) for n in (10, 100, 1000, 10_000)]
    assert [check.passed for check in tails] == [False, False, True, True]
    assert [check.severity for check in tails] == ["soft"] * 4
    assert pareto_tail(0.69, 1000).severity == "soft"
    assert pareto_tail(1.01, 10_000).severity == "hard"
    assert pareto_tail(math.nan, 10_000).severity == "hard"
