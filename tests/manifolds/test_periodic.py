import itertools

import pytest
import torch

from helmflow.errors import InputError
from helmflow.manifolds.periodic import PeriodicCell

BOX = torch.diag(torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64))
SLANTED = torch.tensor([[3.0, 0.0, 0.0], [1.4, 2.8, 0.0], [-0.9, 0.7, 4.0]], dtype=torch.float64)


@pytest.fixture(params=[BOX, SLANTED], ids=["box", "slanted"])
def cell(request):
    return PeriodicCell(request.param)


def test_volume_and_heights(cell):
    a, b, c = cell.matrix
    assert cell.volume == pytest.approx(float(a @ torch.linalg.cross(b, c)))
    normal = torch.linalg.cross(b, c)
    assert float(cell.heights[0]) == pytest.approx(float(a @ normal / normal.norm()))
    assert PeriodicCell(BOX).heights.tolist() == pytest.approx([2.0, 3.0, 5.0])


def test_a_left_handed_cell_has_positive_volume():
    assert PeriodicCell(BOX[[1, 0, 2]]).volume == pytest.approx(30.0)


def test_wrapped_positions_are_inside_and_differ_by_cell_vectors(cell, generator):
    x = 20 * torch.randn(5, 7, 3, dtype=torch.float64, generator=generator)
    inverse = torch.linalg.inv(cell.matrix)
    fractions = cell.wrap(x) @ inverse
    assert (fractions > -1e-12).all()
    assert (fractions < 1 + 1e-12).all()
    shifts = (cell.wrap(x) - x) @ inverse
    torch.testing.assert_close(shifts, shifts.round(), rtol=0, atol=1e-12)


def test_a_tiny_negative_coordinate_wraps_to_zero():
    x = torch.tensor([[[-1e-18, 0.0, 0.0]]], dtype=torch.float64)
    assert float(PeriodicCell(BOX).wrap(x)[0, 0, 0]) == 0.0


def test_minimum_image_is_the_shortest_of_all_images(cell, generator):
    d = 6 * torch.randn(4, 50, 3, dtype=torch.float64, generator=generator)
    steps = torch.tensor(list(itertools.product(range(-12, 13), repeat=3)), dtype=torch.float64)
    shortest = (d.unsqueeze(-2) + steps @ cell.matrix).norm(dim=-1).amin(-1)
    nearest = cell.minimum_image(d)
    torch.testing.assert_close(nearest.norm(dim=-1), shortest, rtol=1e-12, atol=0)
    shifts = (nearest - d) @ torch.linalg.inv(cell.matrix)
    torch.testing.assert_close(shifts, shifts.round(), rtol=0, atol=1e-11)


def test_minimum_image_passes_gradients_and_single_precision(cell, generator):
    d = torch.randn(2, 3, 3, generator=generator).mul(4).requires_grad_()
    image = cell.minimum_image(d)
    assert image.dtype == torch.float32
    (gradient,) = torch.autograd.grad(image.sum(), d)
    assert torch.equal(gradient, torch.ones_like(d))


@pytest.mark.parametrize("matrix", [torch.zeros(3, 3), torch.eye(2), torch.eye(3) * torch.nan])
def test_impossible_cells_are_refused(matrix):
    with pytest.raises(InputError):
        PeriodicCell(matrix)
