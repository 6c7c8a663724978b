"""Couplings of particles in a periodic cell that split space, not the set of particles."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import Bijector, Chain, TwoWay
from helmflow.bijectors.coupling import Coupling, Split
from helmflow.bijectors.elementwise import Elementwise
from helmflow.bijectors.splines import CircularSpline
from helmflow.errors import InputError
from helmflow.manifolds.torus import wrap
from helmflow.nets.attention import Attention, Transformer
from helmflow.nets.mlp import circular_features
from helmflow.shapes import Particles, Values
from helmflow.streams import stream


@final
class ParticleCoupling(Coupling):
    """Moves some coordinates of all particles, given the other coordinates of all particles.

        y_it = f(x_it; h_i),   y_ic = x_ic,   h = network(cos, sin of 2 pi k x_jc, all j)

    t are the ``moved`` of the d coordinates and c the others; f is a monotone map of the circle
    [0, 1). ``log_det = sum_it log f'``. Equivariant under permutations of particles. x is (batch,
    n, d) in [0, 1). ``network`` maps (batch, n, 2 d_c n_frequencies) to (batch, n,
    d_t n_parameters); it may compute in single precision, f works in the precision of x.
    """

    f: Elementwise

    def __init__(
        self, moved: Sequence[int], d: int, n_frequencies: int, f: Elementwise, network: nn.Module
    ) -> None:
        super().__init__()
        self.moved = list(moved)
        self.given = [c for c in range(d) if c not in self.moved]
        if not self.given or not self.moved or max(self.moved) >= d:
            raise InputError("moved", f"some but not all of the coordinates below {d}", moved)
        self.n_frequencies, self.f, self.network = n_frequencies, f, network
        self.shape = (len(self.moved), f.n_parameters)

    def split(self, x: Particles) -> Split:
        features = circular_features(x[..., self.given], self.n_frequencies)
        dtype = next(self.network.parameters()).dtype
        parameters = self.network(features.to(dtype)).to(x.dtype)

        def join(moved: Tensor) -> Particles:
            columns = list(x.unbind(-1))
            for k, c in enumerate(self.moved):
                columns[c] = moved[..., k]
            return torch.stack(columns, -1)

        return Split(x[..., self.moved], parameters.unflatten(-1, self.shape), join)


@final
class CircularShift(TwoWay):
    """A learned rotation of every coordinate: ``y = x + shift mod 1``, log-determinant zero.

    It starts at zero, the same for all particles; x is (batch, n, d) in [0, 1).
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(d, dtype=torch.float64))

    def directed(self, x: Particles, sign: int) -> tuple[Particles, Values]:
        return wrap(x + sign * self.shift.to(x.dtype), 1.0), x.new_zeros(len(x))


def particle_couplings(
    *,
    n_layers: int = 24,
    n_bins: int = 16,
    n_frequencies: int = 8,
    d: int = 3,
    network: Attention | None = None,
    generator: torch.Generator | None = None,
) -> Chain:
    """The flow for atomic solids of Wirnsberger et al., in fractional coordinates [0, 1).

    Each layer moves one coordinate given the others, then these given that one, by circular
    rational-quadratic splines, and shifts all; the coordinate singled out changes from layer to
    layer. It starts as the identity. The defaults are the published ones (77 million parameters).
    Source: doi:10.1088/2632-2153/ac6b16.
    """
    network = network or Attention()
    generator = generator or stream(0, "particle couplings")
    spline = CircularSpline(n_bins, 1.0)

    def coupling(moved: Sequence[int]) -> ParticleCoupling:
        n_in = 2 * n_frequencies * (d - len(moved))
        n_out = len(moved) * spline.n_parameters
        transformer = Transformer(n_in, n_out, network, generator=generator)
        return ParticleCoupling(moved, d, n_frequencies, spline, transformer)

    layers: list[Bijector] = []
    for layer in range(n_layers):
        alone = layer % d
        others = [c for c in range(d) if c != alone]
        layers += [coupling([alone]), coupling(others), CircularShift(d)]
    return Chain(layers)
