"""Softened cores: equal to the energy outside, linear inside, gradients consistent."""

import pytest
import torch

from crystals import argon, brute_force, water
from double_wells import DoubleWells
from helmflow.energies.softened import SoftenedCore
from helmflow.errors import InputError
from helmflow.streams import stream


def noise(energy, scale, n=4):
    shape = (n, energy.n_particles, 3)
    return scale * torch.randn(shape, generator=stream(0, "u"), dtype=torch.float64)


def approach(energy, fraction, shaken=1e-3):
    """Particle 1 brought to a fraction of its distance from particle 0."""
    u = noise(energy, shaken, 1)
    gap = energy.cell.minimum_image(energy.reference[1] - energy.reference[0])
    u[0, 1] -= (1.0 - fraction) * gap
    return u


def pair_distance(energy, u):
    x = energy.reference + u[0]
    return energy.cell.minimum_image(x[1] - x[0]).norm()


CRYSTALS = {
    "argon": lambda: argon(2, "all"),
    "argon, nearest": lambda: argon(3, "nearest"),
    "water": lambda: water(2, "all"),
    "water, nearest": lambda: water(1, "nearest"),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_equal_to_the_energy_where_no_pair_is_close(name):
    energy = CRYSTALS[name]()
    u = noise(energy, 0.03 * energy.sigma)
    value, gradient = energy.displaced(u)
    soft_value, soft_gradient = SoftenedCore(energy).displaced(u)
    assert torch.allclose(value, soft_value, rtol=1e-13)
    assert torch.allclose(gradient, soft_gradient, atol=1e-11)


@pytest.mark.parametrize("name", CRYSTALS)
def test_continuous_where_the_line_begins(name):
    energy = CRYSTALS[name]()
    soft = SoftenedCore(energy)
    gap = pair_distance(energy, torch.zeros(1, energy.n_particles, 3))
    for shift in (1e-4, -1e-4):
        u = approach(energy, (soft.start / gap).item() + shift, shaken=0.0)
        value, gradient = energy.displaced(u)
        soft_value, soft_gradient = soft.displaced(u)
        scale = gradient.abs().max()
        assert abs(soft_value - value) < 1e-2 * scale
        assert (soft_gradient - gradient).abs().max() < 1e-2 * scale


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("fraction", [0.2, 0.1, 0.02])
def test_gradients_inside_are_those_of_the_energy(name, fraction):
    energy = CRYSTALS[name]()
    soft = SoftenedCore(energy)
    u = approach(energy, fraction)
    value, gradient = soft.displaced(u)
    assert value < energy.displaced(u)[0]
    assert gradient.abs().max() < 1e5 * energy.epsilon
    direction = noise(energy, 1.0, 1)
    direction /= direction.norm()
    h = 1e-6
    slope = (soft.displaced(u + h * direction)[0] - soft.displaced(u - h * direction)[0]) / (2 * h)
    expected = (gradient * direction).sum()
    assert torch.allclose(slope, expected, rtol=1e-3, atol=1e-3 * energy.epsilon)


def test_the_line_is_that_of_the_published_training_energy():
    energy = argon(3, "all")
    soft = SoftenedCore(energy)
    r0 = 0.8
    phi = lambda r: 4 * (r**-12 - r**-6) - energy.offset  # noqa: E731
    slope = 4 * (-12 * r0**-13 + 6 * r0**-7)
    u = approach(energy, 0.6)
    r = pair_distance(energy, u).item()
    x = energy.cell.wrap(energy.reference + u)
    expected = brute_force(energy, x[0])
    apart = (energy.cell.minimum_image(x[0][:, None] - x[0])).norm(dim=2)
    for i, j in torch.triu_indices(len(x[0]), len(x[0]), 1).T.tolist():
        if apart[i, j] < r0:
            d = apart[i, j].item()
            expected += phi(r0) + slope * (d - r0) - phi(d)
    assert r < r0
    assert soft.displaced(u)[0].item() == pytest.approx(expected, rel=1e-10)


def test_works_where_gradients_are_switched_off():
    energy = argon(2, "all")
    soft, u = SoftenedCore(energy), approach(energy, 0.2)
    expected = soft.displaced(u)
    with torch.no_grad():
        found = soft.displaced(u)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert soft._close(noise(energy, 0.045)) == []


def test_particles_on_top_of_each_other():
    energy = argon(2, "all")
    u = approach(energy, 0.0)
    u[0, 1] += u[0, 0] - (u[0, 1] + energy.reference[1] - energy.reference[0])
    value, gradient = SoftenedCore(energy).displaced(u)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()


def test_other_potentials_are_refused():
    with pytest.raises(InputError, match="lennard_jones or stillinger_weber"):
        SoftenedCore(DoubleWells(2, barrier=1.0))
