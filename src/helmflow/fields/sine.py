"""Velocities of a lattice field that respect every symmetry of the lattice."""

from typing import final

import torch
from torch import Tensor

from helmflow.fields.base import VelocityField
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.shapes import Configs, Values

SLOWEST, FASTEST = 0.38, 2.3
"""Frequencies of the sines at first, in units of the field's typical size."""


@final
class SineField(VelocityField):
    """Sums over displacements d of phi and sin(w_f phi), for a scalar field phi (batch, V).

    v_(f, o)(x) = sum_y A_o(x, y) F_f(phi_y),   F_0 = phi,   F_f = sin(w_f phi)

    adjacency: A (orbits, V, V) of a `KernelOrbits`; frequencies: w (features,). Velocity
    ``f * orbits + o`` belongs to feature f and orbit o; ``weights`` may be (1 + features, orbits).
    """

    def __init__(self, adjacency: Tensor, frequencies: Tensor) -> None:
        self.adjacency, self.frequencies = adjacency, frequencies
        self.size = (1 + len(frequencies)) * len(adjacency)

    @classmethod
    def on(
        cls, shape: tuple[int, int], orbits: KernelOrbits, n_features: int, scale: float
    ) -> "SineField":
        """With frequencies for a field of typical size ``scale``."""
        return cls(orbits.adjacency(shape), first_frequencies(n_features, scale))

    @torch.no_grad()
    def stein(self, x: Configs, gradient: Configs, t: float) -> Tensor:
        phase = x[:, None] * self.frequencies[:, None]
        wave = torch.cat([x[:, None], phase.sin()], 1)
        slopes = (phase.cos() * self.frequencies[:, None]).sum(2)
        slopes = torch.cat([x.new_full((len(x), 1), x.shape[1]), slopes], 1)
        pulled = torch.einsum("bx,oxy->boy", gradient, self.adjacency)
        work = torch.einsum("boy,bfy->fob", pulled, wave)
        divergence = slopes.T[:, None] * self.adjacency[:, 0, 0][:, None]
        return (divergence - work).flatten(0, 1)

    def velocity(self, x: Configs, t: float, weights: Tensor) -> tuple[Configs, Values]:
        kernels = weights.view(-1, len(self.adjacency))
        phase = x[:, None] * self.frequencies[:, None]
        return self.moved(kernels, x, phase.sin()), self.divergence(kernels, phase.cos())

    def moved(self, kernels: Tensor, x: Tensor, sine: Tensor) -> Tensor:
        """The velocity from kernels (1 + features, orbits) and the sines of all phases."""
        features = torch.cat([x[:, None], sine], 1).flatten(1)
        matrix = (kernels @ self.adjacency.flatten(1)).view(-1, x.shape[1])
        return features @ matrix

    def matrix(self, kernels: Tensor) -> Tensor:
        """(V, (1 + features) V): what carries a field to all features, side by side."""
        v = self.adjacency.shape[1]
        blocks = (kernels @ self.adjacency.flatten(1)).view(-1, v, v)
        return blocks.permute(1, 0, 2).reshape(v, -1)

    def at_zero(self, kernels: Tensor) -> Tensor:
        """What every feature of a site does to that site: (1 + features,)."""
        return kernels @ self.adjacency[:, 0, 0]

    def divergence(self, kernels: Tensor, cosine: Tensor) -> Values:
        """The divergence from the cosines of all phases."""
        at_zero = self.at_zero(kernels)
        waves = cosine.sum(2) @ (at_zero[1:] * self.frequencies)
        return at_zero[0] * cosine.shape[2] + waves


def first_frequencies(n_features: int, scale: float) -> Tensor:
    """Frequencies (features,) for a field of typical size ``scale``."""
    return torch.linspace(SLOWEST, FASTEST, n_features, dtype=torch.float64) / scale
