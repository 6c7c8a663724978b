"""Mistakes in the arguments of the built-in potentials are named."""

import pytest
import torch

import crystals
from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.stillinger_weber import StillingerWeber
from helmflow.errors import InputError


def field(error):
    return error.value.field


def test_a_range_beyond_half_the_cell_needs_a_choice_of_images():
    with pytest.raises(InputError) as error:
        crystals.argon(2)
    assert field(error) == "potential.images"
    assert crystals.argon(4).pairs.box is None


def test_nearest_images_need_a_rectangular_cell():
    x, cell = crystals.crystal(crystals.FCC, 1.5, 2)
    cell[1, 0] = 0.1
    with pytest.raises(InputError) as error:
        LennardJones(x, cell, **crystals.ARGON, images="nearest")
    assert field(error) == "potential.images"


def test_unknown_images_are_refused():
    with pytest.raises(InputError) as error:
        crystals.argon(2, "some")
    assert field(error) == "potential.images"


@pytest.mark.parametrize("images", ["all", "nearest"])
def test_overlapping_sites_are_refused(images):
    x, cell = crystals.crystal(crystals.FCC, 1.5, 2)
    x[3] = x[7] + 1e-4
    with pytest.raises(InputError) as error:
        LennardJones(x, cell, **crystals.ARGON, images=images)
    assert field(error) == "structure.file"


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_sites_one_cell_apart_are_refused(shift):
    x, cell = crystals.crystal(crystals.FCC, 1.5, 2)
    x[3] = x[7] + shift * cell[1]
    with pytest.raises(InputError) as error:
        LennardJones(x, cell, **crystals.ARGON, images="all")
    assert field(error) == "structure.file"


@pytest.mark.parametrize("name", ["epsilon", "sigma", "cutoff"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_lennard_jones_parameters_are_positive(name, value):
    x, cell = crystals.crystal(crystals.FCC, 1.5, 4)
    with pytest.raises(InputError) as error:
        LennardJones(x, cell, **{**crystals.ARGON, name: value})
    assert field(error) == f"potential.{name}"


@pytest.mark.parametrize("name", ["epsilon", "sigma", "a", "gamma"])
def test_stillinger_weber_parameters_are_positive(name):
    x, cell = crystals.crystal(crystals.DIAMOND, 6.2, 2)
    with pytest.raises(InputError) as error:
        StillingerWeber(x, cell, **{**crystals.WATER, name: -1.0})
    assert field(error) == f"potential.{name}"


def test_a_negative_skin_is_refused():
    x, cell = crystals.crystal(crystals.FCC, 1.5, 4)
    with pytest.raises(InputError) as error:
        LennardJones(x, cell, **crystals.ARGON, skin=-0.1)
    assert field(error) == "potential.skin"


@pytest.mark.parametrize(
    "u", [torch.zeros(4, 3), torch.zeros(1, 5, 3), torch.zeros(1, 32, 2), torch.zeros(1, 96)]
)
def test_displacements_of_another_shape_are_refused(u):
    with pytest.raises(InputError) as error:
        crystals.argon(2, "all").displaced(u.double())
    assert field(error) == "u"


def test_a_covariance_of_another_shape_is_refused():
    u = torch.zeros(1, 32, 3, dtype=torch.float64)
    with pytest.raises(InputError) as error:
        crystals.argon(2, "all").hessian_trace(u, torch.eye(95, dtype=torch.float64))
    assert field(error) == "covariance"


@pytest.mark.parametrize("sites", [torch.zeros(0, 3), torch.zeros(3), torch.zeros(4, 2)])
def test_sites_of_another_shape_are_refused(sites):
    with pytest.raises(InputError) as error:
        LennardJones(sites, 9 * torch.eye(3), **crystals.ARGON)
    assert field(error) == "structure.file"


def test_sites_that_are_not_finite_are_refused():
    sites = torch.tensor([[0.0, 0.0, torch.nan]])
    with pytest.raises(InputError) as error:
        LennardJones(sites, 9 * torch.eye(3), **crystals.ARGON)
    assert field(error) == "structure.file"
