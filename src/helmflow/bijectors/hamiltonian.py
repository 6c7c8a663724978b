"""Hamiltonian flows: symplectic steps in phase space, which never change its volume."""

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import TwoWay, require_event
from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.product import Euclidean, require_phase_space
from helmflow.manifolds.sphere import Sphere, cos_of, normalised, sinc_of
from helmflow.manifolds.torus import Torus
from helmflow.shapes import Configs, Values

ScalarField = Callable[[Tensor], Values]
"""A function (batch, n) -> (batch,) that autograd can differentiate twice."""


def kinetic_energy(p: Tensor) -> Values:
    """``|p|^2/2``."""
    return 0.5 * p.square().sum(-1)


@final
class HamiltonianFlow(TwoWay):
    """Leapfrog with learned potential and kinetic energies on (q, p), concatenated.

        p <- p - h/2 dV/dq;   q <- q + h dK/dp;   p <- p - h/2 dV/dq

    ``n_steps`` times; log-determinant zero, the inverse is the same with -h. On a torus angles are
    wrapped (V must be periodic); on a sphere p is tangent at q, K is |p|^2/2 and q follows the
    geodesic, p being carried along. V that depends on invariants only makes the flow equivariant.
    Raises InputError for finite rows that are no points of phase space.
    Source: P. Toth et al., arXiv:1909.13789; D. J. Rezende et al., arXiv:1909.13739.
    """

    def __init__(
        self,
        manifold: Manifold,
        potential: ScalarField,
        kinetic: ScalarField | None = None,
        *,
        step: float = 0.1,
        n_steps: int = 10,
    ) -> None:
        super().__init__()
        if not isinstance(manifold, Euclidean | Torus | Sphere):
            raise InputError("manifold", "R, T or S", repr(manifold))
        if isinstance(manifold, Sphere) and kinetic is not None:
            raise InputError("kinetic", "None on a sphere: geodesics need |p|^2/2", "a function")
        if not step > 0 or n_steps < 1:
            raise InputError("step", "a positive step and at least one", (step, n_steps))
        self.manifold, self.step, self.n_steps = manifold, step, n_steps
        self.potential = potential
        self.kinetic = kinetic_energy if kinetic is None else kinetic

    def hamiltonian(self, x: Configs) -> Values:
        """``K(p) + V(q)`` (batch,) at x = (q, p)."""
        q, p = x.split(self.manifold.n_coordinates, -1)
        return self.kinetic(p) + self.potential(q)

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        n, h = self.manifold.n_coordinates, sign * self.step
        require_event(x, torch.Size([2 * n]))
        # a step of training that diverges is skipped: no mistake of the user
        finite = torch.isfinite(x).all(-1)
        require_phase_space(self.manifold, x.detach()[finite])
        q, p = x.split(n, -1)
        for _ in range(self.n_steps):
            p = p - 0.5 * h * self._force(q)
            q, p = self._drift(q, p, h)
            p = p - 0.5 * h * self._force(q)
        return torch.cat((q, p), -1), torch.zeros_like(x[:, 0])

    def _force(self, q: Tensor) -> Tensor:
        gradient = _gradient(self.potential, q)
        if isinstance(self.manifold, Sphere):
            return self.manifold.tangent(q, gradient)
        return gradient

    def _drift(self, q: Tensor, p: Tensor, h: float) -> tuple[Tensor, Tensor]:
        if not isinstance(self.manifold, Sphere):
            return self.manifold.exp(q, h * _gradient(self.kinetic, p)), p
        square = p.square().sum(-1, keepdim=True)
        cos, sinc = cos_of(h * h * square), sinc_of(h * h * square)
        moved = normalised(cos * q + h * sinc * p)
        # back into the tangent space against rounding
        return moved, self.manifold.tangent(moved, cos * p - h * square * sinc * q)


def _gradient(function: ScalarField, x: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x if x.requires_grad else x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf, create_graph=True)
    return gradient if torch.is_grad_enabled() else gradient.detach()


def poisson_bracket(g: ScalarField, H: ScalarField, x: Tensor) -> Values:
    """``{g, H} = dg/dq . dH/dp - dg/dp . dH/dq`` (batch,) at x = (q, p).

    Zero everywhere when the flow of H commutes with the symmetry that g generates; its mean
    square is the soft alternative to building H from invariants.
    """
    dg_q, dg_p = _gradient(g, x).chunk(2, -1)
    dh_q, dh_p = _gradient(H, x).chunk(2, -1)
    return (dg_q * dh_p - dg_p * dh_q).sum(-1)


@final
class GaussianEncoder(nn.Module):
    """Momenta given positions, independent normal with mean and width from a network.

    The network maps (batch, n) to (batch, 2 n): means and logarithms of widths.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def sample_and_log_prob(self, q: Tensor, generator: torch.Generator) -> tuple[Tensor, Values]:
        """One p for each q, and its log density."""
        mean, log_width = self.network(q).chunk(2, -1)
        noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        log_p = -0.5 * noise.square() - log_width - 0.5 * math.log(2.0 * math.pi)
        return mean + log_width.exp() * noise, log_p.sum(-1)
