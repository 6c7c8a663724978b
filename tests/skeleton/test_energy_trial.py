"""The energy on trial: what it must do before a run, and once more at its end."""

import math

import pytest
import torch

from helmflow.errors import InputError
from helmflow.skeleton.energy_trial import EnergyTrial
from helmflow.skeleton.force_trial import ForceTrial

GOAL = 0.01
X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def sound(x):
    return 0.5 * x.square().sum(1) + 0.1 * x.pow(4).sum(1)


def slopes(x):
    return x + 0.4 * x**3


def trial(u=sound, gradient=slopes, finite=True):
    forces = ForceTrial(lambda x: (u(x), gradient(x)), torch.zeros(1, 6, dtype=torch.float64))
    return EnergyTrial(u, X[:8], GOAL, finite, forces, X)


def closed(u, gradient=slopes, stderr=GOAL):
    """Checks of an energy that changes after the beginning of the run."""
    opened = trial()
    values = opened.open()
    opened.u = u
    opened.forces = ForceTrial(lambda x: (sound(x), gradient(x)), torch.zeros(1, 6).double())
    return {check.name: check for check in opened.close(values, stderr)}


def test_a_sound_energy_passes():
    checks = closed(sound)
    assert all(check.passed for check in checks.values())


def in_single_precision(x):
    return sound(x.float()).double()


def test_single_precision_is_sound():
    trial(in_single_precision, lambda x: slopes(x.float()).double()).open()


def spread(x):
    return sound(x).mean().expand(len(x)).contiguous()


def by_row(x):
    return sound(x) + 0.1 * torch.arange(len(x))


def changing(x):
    return sound(x.mul_(1.001))


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (spread, "one energy of one configuration"),
        (by_row, "one energy of one configuration"),
        (changing, "leaves its argument alone"),
        (lambda x: sound(x)[:, None], "energies of shape"),
        (lambda x: sound(x).sum(), "energies of shape"),
        (lambda x: torch.where(x[:, 0] > 0.0, math.nan, sound(x)), "a finite energy"),
        (lambda x: torch.where(x[:, 0] > 0.0, math.inf, sound(x)), "a finite energy"),
    ],
)
def test_what_is_no_energy_is_refused(u, message):
    with pytest.raises(InputError, match=message) as error:
        trial(u).open()
    assert "\n" not in str(error.value)


def test_noise_is_refused():
    generator = torch.Generator().manual_seed(1)
    with pytest.raises(InputError, match="one energy of one configuration"):
        trial(lambda x: sound(x) + torch.randn(len(x), generator=generator)).open()


@pytest.mark.parametrize(
    "gradient",
    [
        lambda x: 1.01 * slopes(x),
        lambda x: -slopes(x),
        lambda x: 27.2 * slopes(x),
        torch.zeros_like,
        lambda x: torch.cat([slopes(x)[:, :5], torch.zeros(len(x), 1)], dim=1),
        lambda x: slopes(x)[:, :5],
    ],
)
def test_forces_that_are_no_gradient_are_refused(gradient):
    with pytest.raises(InputError, match=r"potential: expected (forces|gradients)"):
        trial(gradient=gradient).open()


@pytest.mark.parametrize(
    ("drift", "passed", "severity"),
    [(0.0, True, "soft"), (0.5, False, "soft"), (5.0, False, "hard")],
)
def test_an_energy_that_drifts_fails_at_the_end(drift, passed, severity):
    check = closed(lambda x: sound(x) + drift * GOAL)["energy repeats"]
    assert check.passed == passed
    assert passed or check.severity == severity


@pytest.mark.parametrize(
    ("factor", "passed", "severity"),
    [(1.0, True, "soft"), (1.0015, False, "soft"), (1.05, False, "hard")],
)
def test_forces_are_judged_by_the_error_bar(factor, passed, severity):
    check = closed(sound, lambda x: factor * slopes(x))["forces fit the energy"]
    assert check.passed == passed
    assert passed or check.severity == severity
