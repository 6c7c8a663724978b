import re
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import torch

from helmflow.doctor import check_energy
from helmflow.energies.growing_sphere import GrowingSphere
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.errors import InputError
from small_solvent import BOX, energy_by_hand, path, positions


def test_against_numpy_with_every_image_of_the_sphere():
    x = positions(11)
    x[:3, 0] = torch.tensor([0.49 * BOX, 0.1, -0.2])  # feels two images of a large sphere
    x[3, 1] += 3.0 * BOX
    for radius in (1.2, 2.3):
        energy = GrowingSphere(24, box=BOX, radius=radius)
        expected = [energy_by_hand(row, BOX, radius) for row in x.numpy()]
        np.testing.assert_allclose(energy(x).numpy(), expected, rtol=1e-12)


def test_gradient_and_slope_by_the_radius():
    energy = GrowingSphere(24, box=BOX, radius=2.3)
    x = positions(5)
    x[0, 0] = torch.tensor([0.49 * BOX, 0.1, -0.2])
    assert [check.name for check in check_energy(energy, x) if not check.passed] == []
    h = 1e-6
    _, slope, _ = energy.evaluate(x, energy.radii(x))
    difference = (energy.at(2.3 + h)(x) - energy.at(2.3 - h)(x)) / (2.0 * h)
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-6)


def test_a_radius_for_every_row():
    energy = GrowingSphere(24, box=BOX, radius=1.0)
    x = positions(9)
    radii = torch.linspace(1.0, 1.4, 9, dtype=torch.float64)
    together = energy.evaluate(x, radii)[0]
    alone = torch.cat([energy.at(float(r))(row[None]) for r, row in zip(radii, x, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-13, atol=0.0)


def test_particles_in_contact_have_infinite_energy():
    x = positions(3)
    x[1, 4] = x[1, 5]
    energy = GrowingSphere(24, box=BOX, radius=1.0)(x)
    assert torch.isinf(energy).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"box": -1.0, "radius": 1.0}, "potential.box"),
        ({"box": 4.0, "radius": 0.0}, "potential.radius"),
        ({"box": 4.0, "radius": 1.0, "cutoff": 2.1}, "potential.cutoff: expected at most half"),
        ({"box": 4.0, "radius": 3.0}, "potential.radius: expected at most"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(InputError, match=message):
        GrowingSphere(24, **arguments)
    with pytest.raises(InputError, match="x: expected shape"):
        path().energy(torch.zeros(1, 3, 3))


def test_the_openmm_builder_of_the_system_gives_the_same_energy():
    text = (Path(__file__).parents[2] / "systems" / "solvation" / "README.md").read_text()
    code = re.search(r"(    import openmm\n.*?return system)\n", text, re.S)[1]
    names = {}
    exec(dedent(code), names)
    system = names["growing_sphere"](24, BOX, 1.9)
    theirs = OpenMMEnergy(system, platform="Reference")
    ours = GrowingSphere(24, box=BOX, radius=1.9)
    x = positions(6)
    value, slope = theirs.energy_and_gradient(x)
    expected, gradient = ours.energy_and_gradient(x)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(slope, gradient, rtol=1e-7, atol=1e-7)
