"""Energies and forces against LAMMPS and against flows_for_atomic_solids; see data/energies."""

import json
from pathlib import Path

import pytest
import torch

from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.stillinger_weber import StillingerWeber

DATA = Path(__file__).parents[1] / "data" / "energies"


def load(name, images):
    """The energy, about the sites of the first configuration, and the configurations."""
    data = json.loads((DATA / f"{name}.json").read_text())
    cell = torch.diag(torch.tensor(data["box"], dtype=torch.float64))
    x = torch.tensor([c["positions"] for c in data["configs"]], dtype=torch.float64)
    p = data["potential"]
    if name.startswith("lj"):
        energy = LennardJones(x[0], cell, epsilon=1.0, sigma=1.0, cutoff=2.7, images=images)
    else:
        names = {"lambda_": "lambda", "cos_theta0": "costheta0"}
        keys = ("epsilon", "sigma", "A", "B", "a", "lambda_", "gamma", "cos_theta0")
        parameters = {key: p[names.get(key, key)] for key in keys}
        energy = StillingerWeber(x[0], cell, **parameters, images=images)
    return energy, x, data["configs"]


@pytest.mark.parametrize("name", ["lj_32", "lj_256", "mw_cubic_8", "mw_cubic_64"])
@pytest.mark.parametrize(
    ("images", "key"), [("nearest", "energy_min_image"), ("all", "energy_periodic")]
)
def test_energies_agree_with_an_independent_code(name, images, key):
    energy, x, configs = load(name, images)
    expected = torch.tensor([c[key] for c in configs], dtype=torch.float64)
    torch.testing.assert_close(energy(x), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["lj_32", "lj_256", "mw_cubic_8", "mw_cubic_64"])
def test_forces_agree_with_lammps(name):
    energy, x, configs = load(name, "all")
    expected = -torch.tensor([c["forces"] for c in configs], dtype=torch.float64)
    _, gradient = energy.energy_and_gradient(x)
    scale = expected.abs().amax((1, 2), keepdim=True)
    assert ((gradient - expected) / scale).abs().max() < 1e-7


def test_image_conventions_differ_in_a_small_box():
    nearest, x, _ = load("lj_32", "nearest")
    everything, _, _ = load("lj_32", "all")
    assert (nearest(x) - everything(x)).abs().min() > 1.0
