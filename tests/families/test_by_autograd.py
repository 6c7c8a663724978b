"""Samples and states in Python that do not belong together."""

import numpy as np
import pytest
import torch

import helmflow as hf
from exact import autoregressive

SEEDS = 60


def u_a(x):
    return 0.5 * x.square().sum(1)


def u_b(x):
    return 2.0 * x.square().sum(1) + 0.1 * x.pow(4).sum(1)


def chain(seed, n, width):
    """Correlated samples (n, 3) of a Gaussian."""
    return torch.from_numpy(width * autoregressive(np.random.default_rng(seed), 3, n, 0.7).T)


def grade_of(u, v, x, y):
    return hf.targeted_fep(u, v, x, y).result


def checks_of(result, name):
    return [
        check for check in result.checks if check.name == f"samples of {name} are at their state"
    ]


def test_sound_samples_pass():
    """Sixty pairs of series: a deviation of four standard errors is a matter of 1 in 16,000."""
    failed = 0
    for seed in range(SEEDS):
        x, y = chain(seed, 600, 1.0), chain(1000 + seed, 600, 0.5)
        result = grade_of(u_a, lambda x: 2.0 * x.square().sum(1), x, y)
        (a,), (b,) = checks_of(result, "A"), checks_of(result, "B")
        failed += not (a.passed and b.passed)
    assert failed <= 1


@pytest.mark.parametrize("factor", [0.25, 0.7, 1.5, 2.494, 4.184])
def test_another_unit_or_temperature_is_an_f(factor):
    x, y = chain(0, 2000, 1.0), chain(1, 2000, 0.5)
    result = grade_of(u_a, lambda x: factor * 2.0 * x.square().sum(1), x, y)
    assert result.grade == "F"
    (check,) = checks_of(result, "B")
    assert check.severity == "hard"
    named = {2.494: "k_B T at 298 K in kJ/mol", 4.184: "kcal beside kJ"}
    assert named.get(factor, "where significant") in check.explanation
    assert ("?" in check.explanation) == (factor in (0.25, *named))
    assert checks_of(result, "A")[0].passed


def test_samples_of_another_state():
    x = chain(0, 2000, 1.0)
    assert grade_of(u_a, u_b, x, chain(1, 2000, 1.0)).grade == "F"


def test_energies_without_derivative_are_not_judged():
    def numpy_only(x):
        return torch.from_numpy(0.5 * np.square(x.numpy()).sum(1))

    result = grade_of(
        numpy_only, lambda x: 2.0 * x.square().sum(1), chain(0, 600, 1), chain(1, 600, 0.5)
    )
    assert not checks_of(result, "A")
    assert checks_of(result, "B")


def test_particles_that_nothing_holds_are_not_judged():
    """Two on a spring: where both are is a matter of where they began."""

    def spring(x):
        return 0.5 * (x[:, 0] - x[:, 1]).square().sum(1)

    generator = torch.Generator().manual_seed(0)
    d, drift = (torch.randn(800, 3, generator=generator).double() for _ in range(2))
    middle = drift.cumsum(0)
    x = torch.stack([middle + d / 2, middle - d / 2], 1)
    check = checks_of(grade_of(spring, spring, x, x.flip(0) + 1e-9), "A")[0]
    assert check.value == 0.0
