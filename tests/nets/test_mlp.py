import torch

from helmflow.nets.mlp import Mlp
from helmflow.streams import stream


def test_last_layer_starts_at_zero():
    x = torch.randn(7, 3, generator=stream(0, "x"), dtype=torch.float64)
    assert (Mlp((3, 8, 8, 5))(x) == 0).all()
    assert Mlp((3, 8, 5), zero_last=False)(x).std() > 0


def test_weights_come_from_the_generator_alone():
    state = torch.get_rng_state()
    first, second = (Mlp((3, 8, 5), zero_last=False, generator=stream(1, "net")) for _ in range(2))
    other = Mlp((3, 8, 5), zero_last=False, generator=stream(2, "net"))
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(first.parameters(), second.parameters(), other.parameters(), strict=True)
    for a, b, c in pairs:
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
        assert a.dtype == torch.float64


def test_single_precision():
    net = Mlp((1, 4, 2), zero_last=False, dtype=torch.float32)
    assert net(torch.zeros(5, 1)).dtype == torch.float32
