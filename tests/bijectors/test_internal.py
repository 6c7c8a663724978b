import math

import pytest
import torch

from bijector_cases import BONDS
from helmflow.bijectors.affine import Affine
from helmflow.bijectors.conjugated import Part
from helmflow.bijectors.elementwise import ShiftScale
from helmflow.bijectors.given_torsions import GivenTorsions, Places
from helmflow.bijectors.internal import InternalCoordinates, z_matrix
from helmflow.bijectors.splines import CircularSpline
from helmflow.errors import InputError

N = 10


def positions(n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, N, 3), generator=generator, dtype=torch.float64)


def coordinates():
    return InternalCoordinates(z_matrix(N, BONDS))


def test_internal_coordinates_do_not_see_rotation_and_translation():
    made, x = coordinates(), positions()
    q, _ = torch.linalg.qr(positions(1)[0, :3])
    rotation = q * torch.linalg.det(q)
    turned = made.forward(x @ rotation.T + 0.3)[0] - made.forward(x)[0]
    turned = torch.remainder(turned + math.pi, 2 * math.pi) - math.pi
    internal = made.internal
    assert len(internal) == 3 * N - 6
    assert turned[:, internal].abs().max() < 1e-9
    frame = [i for i in range(3 * N) if i not in internal.tolist()]
    assert turned[:, frame].abs().max() > 0.1


def test_bonds_and_angles_are_what_they_are_called():
    made, x = coordinates(), positions(1)
    q = made.forward(x)[0][0]
    for k, entry in enumerate(made.entries):
        bond = (x[0, entry.atom] - x[0, entry.bond]).norm()
        torch.testing.assert_close(q[3 + k], bond)


def test_torsions_stay_near_their_centres():
    centres = torch.linspace(-3.0, 3.0, N - 1, dtype=torch.float64)
    made = InternalCoordinates(z_matrix(N, BONDS), centres=centres)
    q, _ = made.forward(positions())
    assert ((q[:, made.torsions] - centres).abs() <= math.pi + 1e-12).all()
    torch.testing.assert_close(made.inverse(q)[0], positions())


def test_coordinates_of_no_molecule_give_nan():
    made = coordinates()
    q, _ = made.forward(positions())
    n = N - 1
    q[0, 3] = -0.1  # a bond
    q[1, 3 + n] = 3.5  # an angle
    q[2, 3 + 2 * n] += 7.0  # a torsion
    assert torch.isnan(made.inverse(q)[0]).any(2).any(1).all()


@pytest.mark.parametrize(
    "bonds", [BONDS[:-1], [(0, 1), (2, 3)]], ids=["an atom loose", "two molecules"]
)
def test_molecules_must_be_whole(bonds):
    with pytest.raises(InputError, match="topology: expected one molecule"):
        z_matrix(N, bonds)


@pytest.mark.parametrize("kind", ["circle", "line"])
def test_couplings_start_as_the_identity(kind):
    moved, given = torch.tensor([21, 23]), torch.tensor([22, 24])
    if kind == "circle":
        made = GivenTorsions(Places.around(moved, torch.zeros(2)), given, CircularSpline(6))
    else:
        made = GivenTorsions(Places(moved, scale=torch.full((2,), 0.1)), given, ShiftScale())
    q, _ = coordinates().forward(positions())
    y, log_det = made.forward(q)
    torch.testing.assert_close(y, q)
    torch.testing.assert_close(log_det, torch.zeros(3).double())


def test_part_moves_only_its_part():
    inner = Affine(torch.tensor([2.0, 3.0]).double(), torch.tensor([0.1, 0.2]).double())
    made = Part(inner, torch.tensor([3, 1]))
    x = torch.arange(10.0, dtype=torch.float64).reshape(2, 5)
    y, log_det = made.forward(x)
    assert y[0].tolist() == pytest.approx([0.0, 3.2, 2.0, 6.1, 4.0])
    torch.testing.assert_close(log_det, torch.full((2,), math.log(6.0)).double())
    with pytest.raises(InputError, match="index"):
        Part(inner, torch.tensor([1, 1]))
    with pytest.raises(InputError, match="moved"):
        GivenTorsions(Places(torch.tensor([1])), torch.tensor([1]), ShiftScale())
