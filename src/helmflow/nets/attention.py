"""Permutation-equivariant networks on sets of particles."""

import math
from dataclasses import dataclass
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from helmflow.errors import InputError
from helmflow.streams import stream


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x.bfloat16(), weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        half = upstream.bfloat16()
        down = (half @ weight.bfloat16()).to(upstream.dtype)
        rows, columns = half.flatten(0, -2), x.flatten(0, -2)
        of_weight = (rows.mT @ columns).to(upstream.dtype)
        return down, of_weight, upstream.flatten(0, -2).sum(0)


@final
class HalfGradientLinear(nn.Linear):
    """``x W^T + b`` in the precision of the weights, its gradients by bfloat16 products.

    Values are those of ``nn.Linear``; gradients carry a relative rounding noise of 2^-8, far below
    that of sampling. On processors with bfloat16 instructions a step of training takes about half
    the time, and half the memory for what is kept for the gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (..., n_out) for inputs (..., n_in)."""
        if not torch.is_grad_enabled():
            return functional.linear(x, self.weight, self.bias)
        return _Linear.apply(x, self.weight, self.bias)


@dataclass(frozen=True)
class Attention:
    """The size of a `Transformer` and how it computes; the defaults are the published ones.

    ``dtype`` is that of the weights. With ``half_gradients`` gradients, and only they, are
    computed by products in bfloat16.
    """

    width: int = 256
    n_heads: int = 2
    n_blocks: int = 2
    dtype: torch.dtype = torch.float32
    half_gradients: bool = False

    def __post_init__(self) -> None:
        if self.n_heads < 1 or self.width % self.n_heads:
            raise InputError("n_heads", f"a divisor of the width {self.width}", self.n_heads)


@final
class Transformer(nn.Module):
    """A transformer without positions: (batch, n, n_in) to (batch, n, n_out), equivariant.

    Linear embedding to ``width``, then ``n_blocks`` residual blocks of self-attention
    (``n_heads`` heads) and a GELU network of four times the width, no normalisation and no
    dropout, then a linear layer. The last layer and the outputs of all residual branches start at
    zero, so that what the network conditions starts as the identity. Other weights are drawn from
    ``generator`` (the same every time if none is given). Cost grows with n^2.

    Source of the layout: P. Wirnsberger et al., doi:10.1088/2632-2153/ac6b16.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: Attention | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        size = size or Attention()
        width = size.width
        make = _Maker(size.dtype, size.half_gradients, generator or stream(0, "transformer"))
        self.embed = make.linear(n_in, width)
        blocks = (_Block(width, size.n_heads, make) for _ in range(size.n_blocks))
        self.blocks = nn.Sequential(*blocks)
        self.read = make.zero(width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs (batch, n, n_out) for inputs (batch, n, n_in)."""
        return self.read(self.blocks(self.embed(x)))


@dataclass(frozen=True)
class _Maker:
    """Makes the linear layers of one network."""

    dtype: torch.dtype
    half_gradients: bool
    generator: torch.Generator

    def linear(self, fan_in: int, fan_out: int) -> nn.Linear:
        """Weights normal with 1/sqrt(fan_in), cut off at twice that; no bias."""
        kind = HalfGradientLinear if self.half_gradients else nn.Linear
        layer = cast(nn.Linear, nn.utils.skip_init(kind, fan_in, fan_out, dtype=self.dtype))
        scale = 1.0 / math.sqrt(fan_in)
        with torch.no_grad():
            layer.weight.normal_(0.0, scale, generator=self.generator)
            layer.weight.clamp_(-2.0 * scale, 2.0 * scale)
            layer.bias.zero_()
        return layer

    def zero(self, fan_in: int, fan_out: int) -> nn.Linear:
        """A layer whose output is zero at first."""
        layer = self.linear(fan_in, fan_out)
        nn.init.zeros_(layer.weight)
        return layer


class _Block(nn.Module):
    def __init__(self, width: int, n_heads: int, make: _Maker) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.mix = make.linear(width, 3 * width)
        self.attended = make.zero(width, width)
        self.widen = make.linear(width, 4 * width)
        self.narrow = make.zero(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, n, width = x.shape
        heads = self.mix(x).view(batch, n, 3, self.n_heads, width // self.n_heads)
        heads = heads.permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.attended(mixed.transpose(1, 2).reshape(batch, n, width))
        return x + self.narrow(functional.gelu(self.widen(x)))
