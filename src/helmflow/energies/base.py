"""What every energy offers: values, gradients, and for particles the displaced crystal."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, overload

import torch
from torch import Tensor, nn

from helmflow.errors import InputError
from helmflow.manifolds.periodic import PeriodicCell
from helmflow.shapes import Configs, Particles, Values


class Energy(nn.Module, ABC):
    """A potential energy U(x), in the energy unit of its system."""

    if TYPE_CHECKING:

        def __call__(self, x: Configs) -> Values: ...

    @abstractmethod
    def forward(self, x: Configs) -> Values:
        """Energies (batch,) of configurations (batch, ...), differentiable in ``x``."""

    def energy_and_gradient(self, x: Configs) -> tuple[Values, Configs]:
        """Energies (batch,) and gradients +dU/dx, shaped like ``x``, without a graph."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            energy = self(leaf)
            (gradient,) = torch.autograd.grad(energy.sum(), leaf)
        return energy.detach(), gradient


class ParticleEnergy(Energy):
    """Energy of particles about reference sites (n, 3) in a periodic cell.

    ``continuous``: whether the energy is. ``continuous_forces``: whether forces are continuous
    everywhere and ``hessian_trace`` is offered. ``costly``: whether one evaluation takes
    milliseconds rather than microseconds.
    """

    reference: Tensor
    continuous: bool = True
    continuous_forces: bool = False
    costly: bool = False

    def __init__(self, reference: Tensor, cell: PeriodicCell) -> None:
        super().__init__()
        reference = torch.as_tensor(reference, dtype=torch.float64).contiguous()
        if reference.ndim != 2 or reference.shape[-1] != 3 or len(reference) == 0:
            raise InputError("structure.file", "positions (n, 3)", tuple(reference.shape))
        if not torch.isfinite(reference).all():
            raise InputError("structure.file", "finite positions", "NaN or infinity")
        self.register_buffer("reference", reference)
        self.cell = cell

    @property
    def n_particles(self) -> int:
        """Number of particles."""
        return len(self.reference)

    @overload
    def displaced(
        self, u: Particles, *, gradient: Literal[True] = True
    ) -> tuple[Values, Particles]: ...

    @overload
    def displaced(self, u: Particles, *, gradient: Literal[False]) -> tuple[Values, None]: ...

    @abstractmethod
    def displaced(self, u: Particles, *, gradient: bool = True) -> tuple[Values, Particles | None]:
        """Energies (batch,) and gradients +dU/du (batch, n, 3) at ``reference + u``.

        No wrapping, no graph: the entry point for samplers. Without ``gradient`` the second
        result is None.
        """

    def displacements(self, x: Particles) -> Particles:
        """Nearest-image displacements of ``x`` from the sites, minus their mean over particles."""
        u = self.cell.minimum_image(x - self.reference.to(x))
        return u - u.mean(dim=1, keepdim=True)

    def energy_and_gradient(self, x: Particles) -> tuple[Values, Particles]:
        """Energies (batch,) and gradients +dU/dx (batch, n, 3), without a graph."""
        return self.displaced_with_gradient(self.displacements(x.detach()))

    def displaced_with_gradient(self, u: Particles) -> tuple[Values, Particles]:
        """What `displaced` returns when the gradient is asked for."""
        energy, gradient = self.displaced(u)
        if gradient is None:
            raise TypeError(f"{type(self).__name__}.displaced returned no gradient")
        return energy, gradient

    def hessian_trace(self, u: Particles, covariance: Tensor) -> Values:
        """tr[covariance d^2U/du^2] (batch,) of flattened displacements, where offered."""
        raise NotImplementedError(f"{type(self).__name__} offers no second derivatives")
