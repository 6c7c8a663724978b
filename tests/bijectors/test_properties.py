"""What every bijector promises: a line in `bijector_cases.CASES` inherits all of it."""

import pytest
import torch

from bijector_cases import CASES, gap, jacobian_log_det
from helmflow.bijectors.base import Identity

SLOW_TO_DIFFERENCE = {"loops of SU(3)"}
N_JACOBIANS = 2


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def f(case):
    return case.make()


def test_round_trip_both_ways(case, f):
    x = case.points(60)
    y, log_det = f.forward(x)
    again, log_back = f.inverse(y.detach())
    assert gap(case, again, x) < case.back
    assert (log_det + log_back).abs().max() < case.minus
    unmoved = y.shape == x.shape and gap(case, y, x) < 1e-2
    assert unmoved == isinstance(f, Identity)


def test_log_det_is_that_of_the_jacobian(case, f, request):
    if request.node.callspec.params["case"] in SLOW_TO_DIFFERENCE:
        pytest.skip("differences of 256 directions of 32 matrices; SU(2) runs the same code")
    for x in case.points(N_JACOBIANS).split(1):
        log_det = f.forward(x)[1][0]
        assert abs(jacobian_log_det(case, f, x) - log_det) < case.det


def test_batches_of_any_size_and_rows_that_know_nothing_of_each_other(case, f):
    x = case.points(5)
    for direction in (f.forward, f.inverse):
        y, log_det = direction(x)
        assert y.shape[0] == 5
        assert log_det.shape == (5,)
        assert log_det.dtype == torch.float64
        one, its_log_det = direction(x[2:3])
        assert gap(case, one, y[2:3]) < 1e-11
        assert (its_log_det - log_det[2:3]).abs().max() < 1e-10
        none, no_log_det = direction(x[:0])
        assert none.shape == (0, *y.shape[1:])
        assert no_log_det.shape == (0,)
        x = y.detach()


def test_state_dict_restores_the_map(case, f):
    x = case.points(3)
    y, _ = f.forward(x)
    state = {name: value.clone() for name, value in f.state_dict().items()}
    for value in f.state_dict().values():
        value.zero_()
    f.load_state_dict(state)
    assert torch.equal(f.forward(x)[0], y)
