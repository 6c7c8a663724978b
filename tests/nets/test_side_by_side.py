"""Networks evaluated together against one after the other."""

import torch

from helmflow.nets.mlp import Conditioner, Constant, side_by_side
from helmflow.streams import stream


def test_each_network_sees_its_first_columns():
    generator = stream(0, "nets")
    nets = [Conditioner([5, 4], generator).network(n, 3) for n in (2, 0, 6, 4)]
    for net in nets:
        for parameter in net.parameters():
            parameter.data.normal_(generator=generator)
    assert isinstance(nets[1], Constant)
    inputs = torch.randn(7, 4, 6, generator=generator, dtype=torch.float64)
    found = side_by_side(nets, inputs)
    assert found.shape == (7, 4, 3)
    for k, n in enumerate((2, 0, 6, 4)):
        torch.testing.assert_close(found[:, k], nets[k](inputs[:, k, :n]), rtol=0, atol=1e-14)


def test_constants_alone():
    nets = [Constant(2), Constant(2)]
    nets[1].value.data += 1.0
    found = side_by_side(nets, torch.zeros(3, 2, 0, dtype=torch.float64))
    assert torch.equal(found, torch.tensor([[0.0, 0.0], [1.0, 1.0]]).double().expand(3, 2, 2))
