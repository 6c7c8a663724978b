"""The conditioner: equivariant, zero at first, and of the published size."""

import pytest
import torch

from helmflow.errors import InputError
from helmflow.nets.attention import Attention, Transformer
from helmflow.nets.mlp import circular_features
from helmflow.streams import stream


def awake(module, scale=0.3, seed=1):
    """The module with all weights random, the zero ones too."""
    generator = stream(seed, "weights")
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return module


def network():
    return Transformer(6, 5, Attention(8, dtype=torch.float64))


def test_zero_at_first():
    x = torch.randn(3, 4, 6, generator=stream(0, "x"), dtype=torch.float64)
    assert torch.equal(network()(x), torch.zeros(3, 4, 5, dtype=torch.float64))


def test_every_weight_gets_a_gradient_once_it_is_awake():
    module = awake(network())
    x = torch.randn(3, 4, 6, generator=stream(0, "x"), dtype=torch.float64)
    module(x).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in module.parameters())


def test_permuting_particles_permutes_the_output():
    module = awake(network())
    x = torch.randn(3, 7, 6, generator=stream(0, "x"), dtype=torch.float64)
    order = torch.randperm(7, generator=stream(0, "order"))
    assert torch.allclose(module(x)[:, order], module(x[:, order]), atol=1e-12)


def test_particles_see_each_other():
    module = awake(network())
    x = torch.randn(1, 4, 6, generator=stream(0, "x"), dtype=torch.float64)
    moved = x.clone()
    moved[0, 3] += 0.1
    assert (module(x) - module(moved))[0, 0].abs().max() > 1e-4


def test_attention_is_the_textbook_formula():
    module = awake(Transformer(3, 2, Attention(4, 2, 1, torch.float64)))
    x = torch.randn(1, 3, 3, generator=stream(0, "x"), dtype=torch.float64)
    block = module.blocks[0]
    h = module.embed(x)[0]
    q, k, v = block.mix(h).view(3, 3, 4).unbind(1)
    heads = []
    for half in (slice(0, 2), slice(2, 4)):
        weights = (q[:, half] @ k[:, half].T / 2**0.5).softmax(1)
        heads.append(weights @ v[:, half])
    h = h + block.attended(torch.cat(heads, 1))
    h = h + block.narrow(torch.nn.functional.gelu(block.widen(h)))
    assert torch.allclose(module.read(h), module(x)[0], atol=1e-12)


def test_weights_depend_on_the_generator_alone():
    a, b = (Transformer(3, 2, Attention(4), generator=stream(5, "w")) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.embed.weight, Transformer(3, 2, Attention(4)).embed.weight)


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="divisor of the width 6"):
        Attention(6, 4)


def test_circular_features():
    x = torch.tensor([[0.1, 0.4]], dtype=torch.float64)
    found = circular_features(x, 3)
    assert found.shape == (1, 12)
    expected = [
        f(2 * torch.pi * k * c) for f in (torch.cos, torch.sin) for c in x[0] for k in (1, 2, 3)
    ]
    assert torch.allclose(found[0], torch.stack(expected))
    assert torch.allclose(found, circular_features(x + torch.tensor([1.0, -2.0]), 3), atol=1e-13)


def test_half_gradients_change_gradients_slightly_and_values_not_at_all():
    def gradients(half):
        module = awake(Transformer(6, 5, Attention(8, half_gradients=half)))
        x = torch.randn(40, 7, 6, generator=stream(0, "x")).requires_grad_()
        y = module(x)
        y.square().sum().backward()
        return y.detach(), [x.grad, *(p.grad for p in module.parameters())]

    y, exact = gradients(False)
    same, half = gradients(True)
    assert torch.equal(y, same)
    errors = [(a - b).norm() / a.norm() for a, b in zip(exact, half, strict=True)]
    assert 1e-5 < max(errors) < 0.02
