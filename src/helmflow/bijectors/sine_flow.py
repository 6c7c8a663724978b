"""Continuous flows of lattice fields that respect every symmetry of the lattice."""

import math
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import require_event
from helmflow.bijectors.scored_flow import Rates, ScoredFlow
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.shapes import Configs, Values


@final
class SineFlow(ScoredFlow):
    """The flow of a scalar field phi (batch, V) on a periodic lattice, t from 0 to 1.

        dphi_x/dt = sum_y [ W_0(x - y, t) phi_y + sum_f W_f(x - y, t) sin(w_f phi_y) ]
        div v     = sum_x [ W_0(0, t) + sum_f W_f(0, t) w_f cos(w_f phi_x) ]

    Kernels W have one weight per orbit of displacements (`KernelOrbits`) and cosine polynomials
    in t, ``coefficients`` (times, 1 + features, orbits); ``frequencies`` w are learned. The field
    is odd in phi, so the flow commutes with translations, reflections and phi -> -phi exactly; it
    grows at most linearly, so no trajectory diverges. Initially the identity. ``scale``: the
    typical size of phi, from which frequencies start. Weights serve lattices of any extent.
    Source: M. Gerdes et al., arXiv:2207.00283.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        orbits: KernelOrbits,
        *,
        n_features: int = 6,
        n_times: int = 5,
        scale: float = 1.0,
        n_steps: int = 8,
    ) -> None:
        super().__init__(n_steps)
        size = (n_times, 1 + n_features, len(orbits))
        start = torch.linspace(0.38, 2.3, n_features, dtype=torch.float64) / scale
        self.shape = tuple(shape)
        self.orbits = orbits
        self.coefficients = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.frequencies = nn.Parameter(start)
        self.register_buffer("adjacency", orbits.adjacency(self.shape), persistent=False)

    adjacency: Tensor

    def with_steps(self, n_steps: int) -> "SineFlow":
        """The same flow with the same parameters, integrated with another number of steps."""
        n_times, features, _ = self.coefficients.shape
        other = SineFlow(
            self.shape, self.orbits, n_features=features - 1, n_times=n_times, n_steps=n_steps
        )
        other.coefficients, other.frequencies = self.coefficients, self.frequencies
        other.adjacency = self.adjacency
        return other

    def velocity(self, x: Configs, t: float) -> tuple[Configs, Values]:
        """v_t(phi) (batch, V) and its divergence (batch,)."""
        require_event(x, self.adjacency.shape[1:2])
        kernels = self._kernels(t)
        phase = x[:, None] * self.frequencies[:, None]
        v = self._moved(kernels, x, phase.sin())
        return v, self._divergence(kernels, phase.cos())

    def rates(self, x: Configs, score: Configs, t: float) -> Rates:
        """v_t(phi), its divergence and ``-(dv/dphi)^T g - grad div v``."""
        kernels = self._kernels(t)
        phase = x[:, None] * self.frequencies[:, None]
        sine = phase.sin()
        v = self._moved(kernels, x, sine)
        with torch.no_grad():
            w = self.frequencies[:, None]
            cosine = phase.cos()
            pulled = (score @ self._matrix(kernels)).view(len(x), len(kernels), -1)
            slope = pulled[:, 0] + (w * cosine * pulled[:, 1:]).sum(1)
            bend = (self._at_zero(kernels)[1:, None] * w.square() * sine).sum(1)
            return Rates(v, self._divergence(kernels, cosine), bend - slope)

    @torch.no_grad()
    def stein(self, x: Configs, gradient: Configs) -> Tensor:
        """``div v_k - v_k . gradient`` of the field v_k of each weight: (weights, batch).

        Row ``f * orbits + o`` belongs to weight (f, o). Their mean under exp(-u) is zero when
        ``gradient`` is that of u.
        """
        phase = x[:, None] * self.frequencies[:, None]
        wave = torch.cat([x[:, None], phase.sin()], 1)
        slopes = (phase.cos() * self.frequencies[:, None]).sum(2)
        slopes = torch.cat([x.new_full((len(x), 1), x.shape[1]), slopes], 1)
        pulled = torch.einsum("bx,oxy->boy", gradient, self.adjacency)
        work = torch.einsum("boy,bfy->fob", pulled, wave)
        divergence = slopes.T[:, None] * self.adjacency[:, 0, 0][:, None]
        return (divergence - work).flatten(0, 1)

    def _kernels(self, t: float) -> Tensor:
        """Weights (1 + features, orbits) at time t."""
        j = torch.arange(len(self.coefficients), dtype=self.coefficients.dtype)
        return torch.tensordot((math.pi * t * j).cos(), self.coefficients, 1)

    def _matrix(self, kernels: Tensor) -> Tensor:
        """(V, (1 + features) V): what carries a field to all features, side by side."""
        v = self.adjacency.shape[1]
        blocks = (kernels @ self.adjacency.flatten(1)).view(-1, v, v)
        return blocks.permute(1, 0, 2).reshape(v, -1)

    def _moved(self, kernels: Tensor, x: Tensor, sine: Tensor) -> Tensor:
        features = torch.cat([x[:, None], sine], 1).flatten(1)
        matrix = (kernels @ self.adjacency.flatten(1)).view(-1, x.shape[1])
        return features @ matrix

    def _at_zero(self, kernels: Tensor) -> Tensor:
        return kernels @ self.adjacency[:, 0, 0]

    def _divergence(self, kernels: Tensor, cosine: Tensor) -> Values:
        at_zero = self._at_zero(kernels)
        waves = cosine.sum(2) @ (at_zero[1:] * self.frequencies)
        return at_zero[0] * cosine.shape[2] + waves
