"""Coupling flows of lattice fields that respect every symmetry of the lattice."""

from functools import partial
from typing import final

import torch
from torch import Generator, Tensor, nn

from helmflow.bijectors.base import Chain, require_event
from helmflow.bijectors.coupling import Coupling, Split
from helmflow.bijectors.elementwise import monotone_inverse
from helmflow.errors import InputError
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.shapes import Configs

CHANNELS = 8
ROUNDING = 1.0 + 1e-12


@final
class CheckerboardCoupling(Coupling):
    """One colour of a checkerboard moves, given the field f on the other; fields (batch, V).

        x -> e^s [(1 - r) x + r tanh(b x) / b] + t

        h = tanh(K f),  h' = tanh(m h + Q h),  t = k h' + T f,
        s = 2 tanh[(a + u h^2 + v h'^2) / 2]

    h, h' have ``CHANNELS`` components per moving site; K, T and Q are kernels between and within
    the colours with one weight per orbit of displacements (`KernelOrbits`). t is odd and s even
    in f: the map commutes with phi -> -phi, with reflections and with even translations. r and b
    are learned numbers, -1 < r < 1, b > 0. Initially t = s = r = 0. Raises InputError for lattices
    with an odd extent, which have no checkerboard.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        reach: int,
        parity: int,
        generator: Generator,
        *,
        isotropic: bool = True,
    ) -> None:
        super().__init__()
        _require_checkerboard(shape)
        between = KernelOrbits(reach, isotropic=isotropic, parity=1)
        within = KernelOrbits(reach, isotropic=isotropic, parity=0)
        colour = _colours(shape)
        moving, frozen = (torch.nonzero(colour == c)[:, 0] for c in (parity, 1 - parity))
        self.register_buffer("moving", moving, persistent=False)
        self.register_buffer("frozen", frozen, persistent=False)
        across = between.adjacency(shape)[:, frozen][:, :, moving]
        self.register_buffer("across", across.contiguous(), persistent=False)
        along = within.adjacency(shape)[:, moving][:, :, moving]
        self.register_buffer("along", along.contiguous(), persistent=False)

        def random(*size: int) -> nn.Parameter:
            start = torch.randn(size, generator=generator, dtype=torch.float64)
            return nn.Parameter(start / size[-1] ** 0.5)

        def zeros(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(size, dtype=torch.float64))

        self.kernel_in = random(CHANNELS, len(between))
        self.kernel_hidden = random(CHANNELS, len(within))
        self.mix = random(CHANNELS, CHANNELS)
        self.kernel_shift = zeros(1, len(between))
        self.shift = zeros(CHANNELS)
        self.scale = zeros(2, CHANNELS)
        self.local = zeros(3)  # a, artanh r, ln b
        self.f = _BentShiftScale()

    moving: Tensor
    frozen: Tensor
    across: Tensor
    along: Tensor

    def split(self, x: Configs) -> Split:
        """The moving colour, and s, t (batch, V/2) there with the numbers of the local map."""
        require_event(x, torch.Size([2 * len(self.moving)]))
        f = x[:, self.frozen]
        n = len(self.moving)
        into = (self.kernel_in @ self.across.flatten(1)).view(-1, n, n)
        h = torch.einsum("bf,cfx->cbx", f, into).tanh()
        within = (self.kernel_hidden @ self.along.flatten(1)).view(-1, n, n)
        mixed = (self.mix @ h.flatten(1)).view_as(h)
        deep = (mixed + torch.bmm(h, within)).tanh()
        t = torch.tensordot(self.shift, deep, 1)
        t = t + f @ (self.kernel_shift @ self.across.flatten(1)).view(n, n)
        even = torch.tensordot(self.scale[0], h.square(), 1)
        even = even + torch.tensordot(self.scale[1], deep.square(), 1)
        s = 2.0 * (0.5 * (self.local[0] + even)).tanh()
        join = partial(x.index_copy, 1, self.moving)
        return Split(x[:, self.moving], (s, t, self.local), join)


class _BentShiftScale:
    """``e^s [(1 - r) x + r tanh(b x) / b] + t`` with parameters s, t and (., artanh r, ln b)."""

    def forward(self, x: Tensor, parameters: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        s, t, local = parameters
        value, log_slope = self._bend(x, local)
        return value * s.exp() + t, log_slope + s

    def inverse(self, y: Tensor, parameters: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """By Newton's method where the map is nonlinear."""
        s, t, local = parameters
        bent = (y - t) * (-s).exp()
        slope = 1.0 - local[1].tanh().clamp_min(0.0).item()
        largest = bent.detach().abs().max().item() if len(y) else 0.0
        bound = ROUNDING * largest / slope
        x = monotone_inverse(partial(self._bend, local=local), bent, -bound, bound)
        return x, -(self._bend(x, local)[1] + s)

    @staticmethod
    def _bend(x: Tensor, local: Tensor) -> tuple[Tensor, Tensor]:
        r, b = local[1].tanh(), local[2].exp()
        wave = (b * x).tanh()
        return (1.0 - r) * x + r * wave / b, torch.log1p(-r * wave.square())


def checkerboard_couplings(
    shape: tuple[int, int],
    reach: int,
    generator: Generator,
    *,
    n_layers: int = 8,
    isotropic: bool = True,
) -> Chain:
    """Layers that move the two colours of a checkerboard in turn; exact density and inverse."""
    return Chain(
        [
            CheckerboardCoupling(shape, reach, k % 2, generator, isotropic=isotropic)
            for k in range(n_layers)
        ]
    )


def _colours(shape: tuple[int, int]) -> Tensor:
    i, j = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    return ((i + j) % 2).flatten()


def _require_checkerboard(shape: tuple[int, int]) -> None:
    if any(n % 2 for n in shape):
        raise InputError("field.shape", "even extents, for a checkerboard", list(shape))
