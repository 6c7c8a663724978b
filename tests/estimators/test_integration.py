"""Thermodynamic integration: quadrature, calibrated errors, control variates that cannot lie."""

import math
from dataclasses import replace

import numpy as np
import pytest

from assertions import assert_calibrated, assert_consistent
from helmflow.estimators.integration import thermodynamic_integration
from helmflow.estimators.nodes import Ladder, Nodes

STIFFNESS = np.array([2.5, 1.8, 0.6])
EXACT = 0.5 * np.log(STIFFNESS).sum()


@pytest.mark.parametrize("n_nodes", [2, 3, 5, 8, 16, 24])
def test_lobatto_is_exact_for_polynomials(n_nodes):
    ladder = Ladder.lobatto(n_nodes)
    assert ladder.lam[0] == 0.0
    assert ladder.lam[-1] == 1.0
    assert (np.diff(ladder.lam) > 0).all()
    np.testing.assert_allclose(ladder.lam, 1 - ladder.lam[::-1], atol=1e-13)
    for degree in range(2 * n_nodes - 2):
        assert ladder.weight @ ladder.lam**degree == pytest.approx(1 / (degree + 1), abs=1e-13)
    degree = 2 * n_nodes - 2
    if n_nodes <= 8:  # and for no higher degree
        assert ladder.weight @ ladder.lam**degree != pytest.approx(1 / (degree + 1), abs=1e-13)


def test_lobatto_of_four_nodes():
    """Abramowitz and Stegun, table 25.6."""
    ladder = Ladder.lobatto(4)
    np.testing.assert_allclose(2 * ladder.lam - 1, [-1, -math.sqrt(0.2), math.sqrt(0.2), 1])
    np.testing.assert_allclose(2 * ladder.weight, [1 / 6, 5 / 6, 5 / 6, 1 / 6])


def springs(rng, ladder, *, steps=5, chains=24, memory=0.0, useless=0, helpful=True):
    """u_A = x^2/2, u_B = k x^2/2: <w>_lambda = sum (k - 1) / (1 + lambda (k - 1)) / 2 exactly."""
    work, stein = [], []
    for lam in ladder.lam:
        stiffness = 1.0 + lam * (STIFFNESS - 1.0)
        x = correlated(rng, (steps, chains, 3), memory) / np.sqrt(stiffness)
        work.append(0.5 * ((STIFFNESS - 1.0) * x**2).sum(-1))
        # Stein functions of x^2/2 and, of no use at all, of x itself times noise
        rows = [stiffness[0] * x[..., 0] ** 2 - 1.0, (stiffness * x**2).sum(-1) - 3.0]
        rows = rows if helpful else []
        noise = correlated(rng, (steps, chains, useless), memory)
        stein.append(np.stack([*rows, *np.moveaxis(noise, -1, 0)]))
    return Nodes(ladder.lam, ladder.weight, work, stein)


def correlated(rng, shape, memory):
    x = rng.normal(size=shape)
    for t in range(1, shape[0]):
        x[t] = memory * x[t - 1] + math.sqrt(1 - memory**2) * x[t]
    return x


def z_scores(rng, *, controls=True, replicas=300, nodes=6, **options):
    ladder = Ladder.lobatto(nodes)
    scores = []
    for _ in range(replicas):
        data = springs(rng, ladder, **options)
        found = thermodynamic_integration(data if controls else replace(data, stein=None))
        scores.append((found.estimate.value - EXACT) / found.estimate.stderr)
    return np.array(scores)


def test_one_estimate(rng):
    ladder = Ladder.lobatto(6)
    data = springs(rng, ladder, steps=200, chains=64)
    found = thermodynamic_integration(data)
    assert_consistent(found.estimate.value, found.estimate.stderr, EXACT, resolve=0.02)
    assert_consistent(found.plain.value, found.plain.stderr, EXACT, resolve=0.03)
    assert found.estimate.stderr < 0.8 * found.plain.stderr
    assert found.estimate.method == "ti+cv"
    assert found.plain.method == "ti"
    slope = 0.5 * ((STIFFNESS - 1) / (1 + ladder.lam[:, None] * (STIFFNESS - 1))).sum(1)
    for mean, stderr in ((found.mean, found.stderr), (found.mean_plain, found.stderr_plain)):
        assert np.abs((mean - slope) / stderr).max() < 5


def test_without_controls_it_is_the_weighted_mean(rng):
    ladder = Ladder.lobatto(5)
    data = springs(rng, ladder)
    found = thermodynamic_integration(replace(data, stein=None))
    means = np.array([w.mean() for w in data.work])
    assert found.estimate.value == pytest.approx(ladder.weight @ means)
    chain_means = np.array([w.mean(0).std(ddof=1) / math.sqrt(24) for w in data.work])
    expected = np.linalg.norm(ladder.weight * chain_means)
    assert found.estimate.stderr == pytest.approx(expected)
    assert found.plain == found.estimate
    for kept, given in zip(found.residual, data.work, strict=True):
        np.testing.assert_array_equal(kept, given)


@pytest.mark.parametrize("controls", [False, True])
def test_errors_are_calibrated(rng, controls):
    assert_calibrated(z_scores(rng, controls=controls))


@pytest.mark.parametrize("controls", [False, True])
def test_errors_include_autocorrelation(rng, controls):
    assert_calibrated(z_scores(rng, controls=controls, steps=12, memory=0.8))


def test_many_useless_controls_cost_precision_but_no_honesty(rng):
    for helpful in (True, False):
        assert_calibrated(z_scores(rng, useless=60, helpful=helpful, replicas=80))


def test_fitting_and_judging_on_the_same_chains_is_noticed(rng, monkeypatch):
    monkeypatch.setattr(Nodes, "cross_fitted", lambda nodes, fit: nodes.corrected(fit(nodes)))
    with pytest.raises(AssertionError, match="z ="):
        assert_calibrated(z_scores(rng, useless=60, steps=2, replicas=60))


def test_errors_that_ignore_autocorrelation_are_noticed(rng):
    """The mutant: every sample counted as a chain of its own."""
    ladder = Ladder.lobatto(6)
    scores = []
    for _ in range(200):
        data = springs(rng, ladder, steps=12, memory=0.8)
        flat = replace(data, work=[w.reshape(1, -1) for w in data.work], stein=None)
        found = thermodynamic_integration(flat).estimate
        scores.append((found.value - EXACT) / found.stderr)
    with pytest.raises(AssertionError, match="z ="):
        assert_calibrated(np.array(scores))


@pytest.mark.parametrize("mistake", ["equal", "out of order"])
def test_wrong_weights_are_noticed(rng, mistake):
    right = Ladder.lobatto(6)
    weight = np.full(6, 1 / 6) if mistake == "equal" else np.roll(right.weight, 1)
    data = springs(rng, right, steps=200, chains=64)
    found = thermodynamic_integration(replace(data, weight=weight)).estimate
    with pytest.raises(AssertionError, match="z ="):
        assert_consistent(found.value, found.stderr, EXACT, resolve=0.05)


def test_controls_with_a_mean_are_noticed(rng):
    """The mutant of all Stein mistakes: a control variate whose mean is not zero."""
    ladder = Ladder.lobatto(6)
    data = springs(rng, ladder, steps=200, chains=64)
    wrong = replace(data, stein=[s + 0.1 for s in data.stein])
    found = thermodynamic_integration(wrong).estimate
    with pytest.raises(AssertionError, match="z ="):
        assert_consistent(found.value, found.stderr, EXACT, resolve=0.05)


def test_an_exact_control_leaves_no_error(rng):
    """w itself, less its known mean, removes everything that the ridge lets go."""
    ladder = Ladder.lobatto(5)
    data = springs(rng, ladder, steps=40, chains=32)
    slope = 0.5 * ((STIFFNESS - 1) / (1 + ladder.lam[:, None] * (STIFFNESS - 1))).sum(1)
    exact = [(w - mean)[None] for w, mean in zip(data.work, slope, strict=True)]
    found = thermodynamic_integration(replace(data, stein=exact))
    assert found.estimate.stderr < 1e-4 * found.plain.stderr
    assert found.estimate.value == pytest.approx(ladder.weight @ slope, abs=1e-4)


def test_adding_a_constant_shifts_the_result(rng):
    ladder = Ladder.lobatto(5)
    data = springs(rng, ladder)
    first = thermodynamic_integration(data).estimate
    moved = replace(data, work=[w + 7.0 for w in data.work])
    moved = thermodynamic_integration(moved).estimate
    assert moved.value - first.value == pytest.approx(7.0)
    assert moved.stderr == pytest.approx(first.stderr)


def test_nodes_may_have_different_numbers_of_chains(rng):
    ladder = Ladder.lobatto(5)
    parts = [springs(rng, ladder, steps=30, chains=16 + 8 * k) for k in range(5)]
    work = [part.work[k] for k, part in enumerate(parts)]
    stein = [part.stein[k] for k, part in enumerate(parts)]
    nodes = Nodes(ladder.lam, ladder.weight, work, stein)
    found = thermodynamic_integration(nodes).estimate
    assert_consistent(found.value, found.stderr, EXACT, resolve=0.1)


def test_constant_work_is_a_result_without_error():
    ladder = Ladder.lobatto(5)
    work = [np.full((4, 8), 1.25)] * 5
    nodes = Nodes(ladder.lam, ladder.weight, work, [np.zeros((2, 4, 8))] * 5)
    found = thermodynamic_integration(nodes).estimate
    assert found.value == pytest.approx(1.25)
    assert found.stderr == 0.0
    assert found.diagnostics["degrees_of_freedom"] == math.inf


def test_controls_that_never_vary_change_nothing(rng):
    ladder = Ladder.lobatto(5)
    data = springs(rng, ladder)
    dead = [np.concatenate([s, np.zeros((3, *s.shape[1:]))]) for s in data.stein]
    alive = thermodynamic_integration(data).estimate
    found = thermodynamic_integration(replace(data, stein=dead)).estimate
    assert found.value == pytest.approx(alive.value, abs=1e-12)
    assert found.stderr == pytest.approx(alive.stderr)
