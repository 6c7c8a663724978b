"""Samples along a path: their parts, their equations, and fits that never see what they serve."""

import numpy as np
import pytest

from helmflow.estimators.nodes import Ladder, Nodes

SIZES = ((4, 6), (5, 3))


@pytest.fixture
def nodes(rng):
    work = [rng.normal(size=size) for size in SIZES]
    stein = [rng.normal(size=(2, *size)) for size in SIZES]
    return Nodes(np.array([0.0, 1.0]), np.array([0.5, 0.5]), work, stein)


def test_columns_are_sorted_by_node(rng):
    node = np.array([1, 0, 1])
    work, stein = rng.normal(size=(4, 3)), rng.normal(size=(4, 2, 3))
    nodes = Nodes.from_columns(np.array([0.0, 1.0]), node, work, stein)
    assert nodes.weight.tolist() == [0.5, 0.5]
    np.testing.assert_array_equal(nodes.work[1], work[:, [0, 2]])
    np.testing.assert_array_equal(nodes.stein[0][1, :, 0], stein[:, 1, 1])
    plain = Nodes.from_columns(np.zeros(1), np.zeros(3, int), work, stein[:, :0])
    assert plain.stein is None
    assert plain.weight.tolist() == [1.0] == Ladder.lobatto(1).weight.tolist()


def test_parts(nodes):
    np.testing.assert_array_equal(nodes.half(1).work[0], nodes.work[0][:, 1::2])
    np.testing.assert_array_equal(nodes.half(0).stein[1], nodes.stein[1][:, :, 0::2])
    np.testing.assert_array_equal(nodes.part(slice(1, 3)).work[1], nodes.work[1][1:3])
    np.testing.assert_array_equal(nodes.part(slice(1, 3)).stein[0], nodes.stein[0][:, 1:3])
    first, rest = nodes.split(0.75)
    for k, size in enumerate((18, 11)):
        assert first.work[k].shape == (1, size)
        both = np.concatenate([first.stein[k], rest.stein[k]], axis=2)
        np.testing.assert_array_equal(both.reshape(nodes.stein[k].shape), nodes.stein[k])


def test_regression_is_that_of_all_columns_side_by_side(nodes):
    basis, scale = np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([0.3, 0.7])
    normal, right = nodes.regression(basis, scale)
    rows, targets = [], []
    for k, (w, s) in enumerate(zip(nodes.work, nodes.stein, strict=True)):
        centred = [f.ravel() - f.mean() for f in s]
        columns = [b * f for b in basis[k] for f in centred]
        rows.append(np.sqrt(scale[k]) * np.stack(columns, 1))
        targets.append(np.sqrt(scale[k]) * (w.ravel() - w.mean()))
    design, target = np.concatenate(rows), np.concatenate(targets)
    np.testing.assert_allclose(normal, design.T @ design, atol=1e-12)
    np.testing.assert_allclose(right, design.T @ target, atol=1e-12)


def test_no_chain_sees_its_own_fit(nodes):
    seen = []

    def fit(half):
        seen.append(half.work[0].tolist())
        return np.full((2, 2), float(len(seen)))

    corrected = nodes.cross_fitted(fit)
    assert seen == [nodes.half(1).work[0].tolist(), nodes.half(0).work[0].tolist()]
    for k, work in enumerate(corrected):
        control = nodes.stein[k].sum(0)
        np.testing.assert_allclose(work[:, 0::2], (nodes.work[k] - control)[:, 0::2])
        np.testing.assert_allclose(work[:, 1::2], (nodes.work[k] - 2.0 * control)[:, 1::2])


def test_arrays_tell_where_every_number_is_from(nodes):
    arrays = nodes.arrays()
    row = 24 + 3 * 2 + 1  # node 1, step 2, chain 1
    assert (arrays["node"][row], arrays["step"][row], arrays["chain"][row]) == (1, 2, 1)
    assert arrays["work"][row] == nodes.work[1][2, 1]
    np.testing.assert_array_equal(arrays["controls"][:, row], nodes.stein[1][:, 2, 1])
