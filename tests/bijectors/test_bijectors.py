"""Every bijector: add a line to BIJECTORS and it inherits all properties."""

import pytest
import torch

from helmflow.bijectors import Affine, Chain, DenseAffine, Identity, Inverse
from helmflow.errors import InputError

EVENT = (2, 3)


def random(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def affine() -> Affine:
    return Affine(random(*EVENT, seed=1), random(*EVENT, seed=2))


def dense() -> DenseAffine:
    return DenseAffine(random(6, 6, seed=3), random(*EVENT, seed=4))


BIJECTORS = {
    "identity": Identity,
    "affine": affine,
    "dense": dense,
    "inverse": lambda: Inverse(affine()),
    "chain": lambda: Chain([affine(), dense(), Inverse(affine())]),
}


@pytest.fixture(params=BIJECTORS.values(), ids=BIJECTORS.keys())
def bijector(request):
    return request.param()


@pytest.fixture
def x():
    return random(5, *EVENT, seed=5)


def test_round_trip_both_ways(bijector, x):
    y, log_det = bijector.forward(x)
    back, inverse_log_det = bijector.inverse(y)
    torch.testing.assert_close(back, x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-10, atol=1e-10)
    again, _ = bijector.forward(bijector.inverse(x)[0])
    torch.testing.assert_close(again, x, rtol=1e-10, atol=1e-10)


def test_log_det_is_that_of_the_jacobian(bijector, x):
    _, log_det = bijector.forward(x)
    for row, expected in zip(x, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda flat: bijector.forward(flat.reshape(1, *EVENT))[0].flatten(), row.flatten()
        )
        assert float(torch.linalg.slogdet(jacobian).logabsdet) == pytest.approx(float(expected))


def test_rows_are_independent(bijector, x):
    y, log_det = bijector.forward(x)
    alone, alone_log_det = bijector.forward(x[2:3])
    torch.testing.assert_close(alone, y[2:3], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(alone_log_det, log_det[2:3], rtol=1e-12, atol=1e-12)
    assert log_det.shape == (5,)
    assert log_det.dtype == torch.float64


def test_is_not_the_identity(bijector, x):
    moved = bool((bijector.forward(x)[0] - x).abs().max() > 0.1)
    assert moved != isinstance(bijector, Identity)


def test_state_dict_restores_the_map(bijector, x):
    y, _ = bijector.forward(x)
    state = {name: value.clone() for name, value in bijector.state_dict().items()}
    for buffer in bijector.buffers():
        buffer.fill_(7.0)
    bijector.load_state_dict(state)
    assert torch.equal(bijector.forward(x)[0], y)


def test_gradients_reach_the_numbers_given():
    scale = random(3, seed=6).requires_grad_()
    y, log_det = Affine(scale, torch.zeros(3, dtype=torch.float64)).forward(random(4, 3, seed=7))
    (y.sum() + log_det.sum()).backward()
    assert bool(torch.isfinite(scale.grad).all())


@pytest.mark.parametrize("make", [affine, dense])
def test_unbatched_input_is_refused(make):
    with pytest.raises(InputError, match=r"^x: expected shape \(batch, 2, 3\), got \(2, 3\)$"):
        make().forward(random(*EVENT, seed=8))


def test_singular_maps_are_refused():
    zero = torch.zeros(2, dtype=torch.float64)
    with pytest.raises(InputError, match=r"^scale: expected finite numbers that are not zero"):
        Affine(zero, zero)
    with pytest.raises(InputError, match=r"^matrix: expected an invertible matrix"):
        DenseAffine(torch.zeros(2, 2, dtype=torch.float64), zero)
    with pytest.raises(InputError, match=r"^matrix: expected shape \(2, 2\), got \(3, 3\)"):
        DenseAffine(torch.eye(3, dtype=torch.float64), zero)
