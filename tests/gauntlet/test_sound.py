"""Sound runs of every family: honest error bars, and the grade they deserve.

`pytest -m gauntlet -s`, with the planted faults; ``-k sound`` alone.
"""

from collections import defaultdict

import pytest
from scipy.stats import chi2

from gauntlet.fault import time_limit
from gauntlet.sound import SYSTEMS

SEEDS = range(8)
HONEST = (0.8, 1.25)
"""Mean square of the error in error bars."""

CHANCE = 0.005
"""Of a family with honest bars to be taken for one beyond either end of this range."""

LOSSES = 0.03
"""Part of sound runs that may lose their A."""

MOST = 120
"""Processor seconds of one run."""


@pytest.fixture(scope="module")
def found():
    """By family: squares of errors in bars, and grades."""
    return defaultdict(list)


@pytest.mark.gauntlet
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("system", SYSTEMS, ids=str)
def test_sound_run(system, seed, found, tmp_path):
    with time_limit(MOST):
        result = system.run(tmp_path, 100 + seed)
    bars = (result.value - system.exact) / (result.stderr**2 + system.stderr**2) ** 0.5
    found[system.family].append((bars * bars, result.grade))
    failed = [f"{c.name} {c.value:.3g}" for c in result.checks if not c.passed]
    print(f"| {system!s:<48} | {seed} | {bars:+6.2f} | {result.grade} | {', '.join(failed)[:80]}")
    assert abs(bars) < 5.0


@pytest.mark.gauntlet
def test_sound_families(found):
    """Error bars of every family are as long as they should be, and few runs lose their A."""
    if not found:
        pytest.skip("no sound run was made")
    dishonest = []
    for family, runs in found.items():
        total, n = sum(square for square, _ in runs), len(runs)
        lost = sum(grade != "A" for _, grade in runs)
        print(f"| {family:<14} | {n} runs | chi2/dof {total / n:.2f} | {lost} without an A")
        long = chi2.cdf(total / HONEST[0], n) < CHANCE
        short = chi2.sf(total / HONEST[1], n) < CHANCE
        if long or short:
            dishonest.append(family)
    grades = [grade for runs in found.values() for _, grade in runs]
    lost = sum(grade != "A" for grade in grades)
    print(f"{len(grades)} sound runs, {lost} without an A")
    assert not dishonest
    assert lost <= LOSSES * len(grades)
