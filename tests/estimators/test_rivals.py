"""What contradicts an integral: calibrated without a fault, decisive with one."""

import math

import numpy as np
import pytest

from helmflow.estimators.integration import thermodynamic_integration
from helmflow.estimators.nodes import Ladder, Nodes
from helmflow.estimators.rivals import (
    against_bar,
    chance_of_means,
    quadrature_error,
    without_control_variates,
)

STIFFNESS = np.array([2.5, 1.8, 0.6])
EXACT = 0.5 * np.log(STIFFNESS).sum()


def springs(rng, *, nodes=6, stiffness=STIFFNESS, steps=6, chains=16, shift=0.0):
    """u_A = x^2/2, u_B = k x^2/2, with two Stein functions whose traces are off by ``shift``."""
    ladder, work, stein = Ladder.lobatto(nodes), [], []
    for lam in ladder.lam:
        k = 1.0 + lam * (stiffness - 1.0)
        x = rng.normal(size=(steps, chains, len(k))) / np.sqrt(k)
        work.append(0.5 * ((stiffness - 1.0) * x**2).sum(-1))
        noise = rng.normal(size=(steps, chains))
        first = k[0] * x[..., 0] ** 2 - 1.0 + noise
        stein.append(np.stack([first, (k * x**2).sum(-1) - len(k) * (1.0 + shift)]))
    return Nodes(ladder.lam, ladder.weight, work, stein)


def test_differences_of_sound_samples_are_as_large_as_their_errors(rng):
    z, chances, integrals = [], [], []
    for _ in range(200):
        nodes = springs(rng)
        integral = thermodynamic_integration(nodes)
        parts = without_control_variates(nodes, integral), against_bar(nodes)
        z.append([part.value / part.stderr for part in parts])
        chances.append(chance_of_means(nodes))
        integrals.append((parts[1].stderr, integral.plain.stderr))
    z = np.array(z)
    assert np.abs(z.mean(0)).max() < 4.0 / math.sqrt(200)
    assert (z.std(0) > 0.85).all()
    assert (z.std(0) < 1.2).all()
    assert np.mean(np.array(chances) < 0.02) < 0.03
    assert 0.1 < np.mean(np.array(chances) < 0.5) < 0.5
    # what they share cancels: independent errors would make a difference of none
    errors = np.array(integrals).mean(0)
    assert errors[0] < 0.3 * errors[1]


def test_traces_off_by_a_tenth_are_seen_and_right_ones_are_not(rng):
    nodes = springs(rng, steps=60, shift=0.1)
    assert chance_of_means(nodes) < 1e-4
    assert chance_of_means(springs(rng, steps=60)) > 1e-3


def test_functions_that_do_not_vary_or_depend_on_each_other_do_not_count(rng):
    nodes = springs(rng, chains=4)
    same = [np.concatenate([s, s[:1] + s[1:], 0.0 * s]) for s in nodes.stein]
    assert 0.0 < chance_of_means(Nodes(nodes.lam, nodes.weight, nodes.work, same)) < 1.0
    flat = [0.0 * s for s in nodes.stein]
    assert chance_of_means(Nodes(nodes.lam, nodes.weight, nodes.work, flat)) is None
    assert chance_of_means(Nodes(nodes.lam, nodes.weight, nodes.work, None)) is None


@pytest.mark.parametrize(("nodes", "stiffness"), [(3, 1.3), (3, 8.0), (4, 30.0), (5, 100.0)])
def test_slopes_know_the_error_of_the_quadrature(nodes, stiffness):
    """With exact moments, w = (k - 1) x^2 / 2: of the right sign, and rather too large."""
    ladder, k = Ladder.lobatto(nodes), np.array([stiffness])
    curve = 0.5 * (k - 1.0) / (1.0 + ladder.lam * (k - 1.0))
    # two values of this mean and of the exact variance 2 <w>^2
    work = [np.array([[m * (1 - 2**0.5), m * (1 + 2**0.5)]]) for m in curve]
    found = Nodes(ladder.lam, ladder.weight, work, None)
    correction = quadrature_error(found, thermodynamic_integration(found)).value
    error = 0.5 * math.log(stiffness) - ladder.weight @ curve
    assert 0.9 < correction / error < (1.1 if stiffness < 2.0 else 10.0)


def test_a_smooth_integrand_has_no_error_of_quadrature(rng):
    z = []
    for nodes in (5, 9, 24):
        samples = springs(rng, nodes=nodes, steps=40)
        error = quadrature_error(samples, thermodynamic_integration(samples))
        z.append(error.value / error.stderr)
        assert error.stderr < thermodynamic_integration(samples).plain.stderr
    assert np.abs(z).max() < 4.0


def test_a_coarse_quadrature_contradicts_bar(rng):
    nodes = springs(rng, nodes=3, stiffness=np.array([60.0, 80.0]), steps=40)
    difference = against_bar(nodes)
    assert abs(difference.value) > 5.0 * difference.stderr


def test_neighbours_that_share_nothing_contradict_nothing_and_are_not_sound(rng):
    nodes = springs(rng)
    apart = [w - 1e4 * k for k, w in enumerate(nodes.work)]
    assert math.isnan(against_bar(Nodes(nodes.lam, nodes.weight, apart, None)).stderr)
