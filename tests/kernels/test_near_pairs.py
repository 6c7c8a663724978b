"""Pairs from cells against all pairs, in boxes of every kind; fields against autograd."""

import numpy as np
import pytest
import torch

from helmflow.kernels.near_pairs import face_distances, near_pairs, pair_fields

BOXES = {
    "none": None,
    "cube": 3.0 * np.eye(3),
    "small": np.diag([1.0, 1.2, 3.0]),
    "slanted": np.array([[3.0, 0, 0], [1.4, 2.6, 0], [-1.3, 1.2, 2.4]]),
}


@pytest.mark.parametrize("kind", BOXES)
def test_every_pair_once_and_to_the_nearest_image(kind, rng):
    box = BOXES[kind]
    x = (rng.random((120, 3)) * 3.0 - 1.0) @ (np.eye(3) if box is None else box)
    cutoff = 0.6 if box is None else min(0.6, 0.4999 * face_distances(box).min())
    d = x[:, None] - x[None]
    if box is not None:
        shifts = np.stack(np.meshgrid(*[np.arange(-5, 6)] * 3), -1).reshape(-1, 3) @ box
        images = d[:, :, None] + shifts
        nearest = (images**2).sum(-1).argmin(-1)
        d = np.take_along_axis(images, nearest[..., None, None], 2)[:, :, 0]
    expected = {
        (i, j): d[i, j] for i in range(120) for j in range(i) if np.linalg.norm(d[i, j]) < cutoff
    }
    i, j, vectors = near_pairs(x, box, cutoff)
    assert len(i) == len(expected)
    assert len(i) > 10
    for a, b, vector in zip(i.tolist(), j.tolist(), vectors, strict=True):
        there = expected.pop((a, b)) if a > b else -expected.pop((b, a))
        np.testing.assert_allclose(vector, there, atol=1e-12)


def test_more_pairs_than_there_was_room_for(rng):
    x = rng.random((300, 3))
    assert len(near_pairs(x, None, 5.0)[0]) == 300 * 299 // 2


def test_the_divergence_is_that_of_the_field(rng):
    x, slopes = torch.from_numpy(rng.random((7, 3))), rng.normal(size=(7, 3))
    reach, cutoff = 0.25, 0.7

    def field(flat):
        d = flat.view(7, 1, 3) - flat.view(1, 7, 3)
        r2 = d.square().sum(-1, keepdim=True)
        rest = (1.0 - r2 / cutoff**2).clamp(min=0.0)
        return (d * rest**2 * torch.exp(-0.5 * r2 / reach**2)).sum(1).flatten()

    found = np.zeros((1, 2))
    pairs = near_pairs(x.numpy(), None, cutoff)
    pair_fields(*pairs, slopes, np.array([reach]), np.array([cutoff]), found)
    jacobian = torch.autograd.functional.jacobian(field, x.flatten())
    push = field(x.flatten()).numpy() @ slopes.flatten()
    np.testing.assert_allclose(found[0], [push, jacobian.trace()], rtol=1e-10)
