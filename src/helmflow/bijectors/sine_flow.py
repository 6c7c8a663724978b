"""Continuous flows of lattice fields that respect every symmetry of the lattice."""

import math
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import require_event
from helmflow.bijectors.fixed_step import Rates, ScoredFlow
from helmflow.fields.sine import SineField, first_frequencies
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
        self.shape = (shape[0], shape[1])
        self.orbits = orbits
        self.coefficients = nn.Parameter(torch.zeros(size, dtype=torch.float64))
        self.frequencies = nn.Parameter(first_frequencies(n_features, scale))
        self.register_buffer("adjacency", orbits.adjacency(self.shape), persistent=False)

    adjacency: Tensor

    @property
    def field(self) -> SineField:
        """The velocities that this flow is made of."""
        return SineField(self.adjacency, self.frequencies)

    def velocity(self, x: Configs, t: float) -> tuple[Configs, Values]:
        require_event(x, self.adjacency.shape[1:2])
        return self.field.velocity(x, t, self._kernels(t))

    def rates(self, x: Configs, score: Configs, t: float) -> Rates:
        """v_t(phi), its divergence and ``-(dv/dphi)^T g - grad div v``."""
        field, kernels = self.field, self._kernels(t)
        phase = x[:, None] * self.frequencies[:, None]
        sine = phase.sin()
        v = field.moved(kernels, x, sine)
        with torch.no_grad():
            w = self.frequencies[:, None]
            cosine = phase.cos()
            pulled = (score @ field.matrix(kernels)).view(len(x), len(kernels), -1)
            slope = pulled[:, 0] + (w * cosine * pulled[:, 1:]).sum(1)
            bend = (field.at_zero(kernels)[1:, None] * w.square() * sine).sum(1)
            return Rates(v, field.divergence(kernels, cosine), bend - slope)

    def _kernels(self, t: float) -> Tensor:
        """Weights (1 + features, orbits) at time t."""
        j = torch.arange(len(self.coefficients), dtype=self.coefficients.dtype)
        return torch.tensordot((math.pi * t * j).cos(), self.coefficients, 1)
