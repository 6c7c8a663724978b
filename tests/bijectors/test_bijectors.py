"""Affine maps and chains beyond what all bijectors promise: gradients and mistakes."""

import pytest
import torch

from bijector_cases import affine, dense, normal
from helmflow import bijectors
from helmflow.bijectors import Affine, DenseAffine
from helmflow.errors import InputError


def test_gradients_reach_the_numbers_given():
    scale = normal(seed=6)(3).requires_grad_()
    y, log_det = Affine(scale, torch.zeros(3, dtype=torch.float64)).forward(normal(3, seed=7)(4))
    (y.sum() + log_det.sum()).backward()
    assert bool(torch.isfinite(scale.grad).all())


@pytest.mark.parametrize("make", [affine, dense])
def test_unbatched_input_is_refused(make):
    with pytest.raises(InputError, match=r"^x: expected shape \(batch, 2, 3\), got \(2, 3\)$"):
        make().forward(normal(3)(2))


def test_singular_maps_are_refused():
    zero = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(InputError, match=r"^scale: expected finite numbers that are not zero"):
        Affine(zero, zero)
    with pytest.raises(InputError, match=r"^matrix: expected an invertible matrix"):
        DenseAffine(torch.zeros(2, 2, dtype=torch.float64), zero)
    with pytest.raises(InputError, match=r"^matrix: expected shape \(2, 2\), got \(3, 3\)"):
        DenseAffine(torch.eye(3, dtype=torch.float64), zero)


def test_public_names_are_imported_on_first_use():
    assert set(bijectors.__all__) <= set(dir(bijectors))
    with pytest.raises(AttributeError, match=r"'helmflow.bijectors' has no attribute 'nonsense'"):
        _ = bijectors.nonsense
