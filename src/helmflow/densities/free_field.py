"""Gaussian lattice fields with a spectrum that can be learned and carried to other volumes."""

import math
from typing import final

import torch
from torch import Generator, Tensor, nn

from helmflow.bijectors.base import require_event
from helmflow.densities.base import Density, require_count
from helmflow.errors import InputError
from helmflow.manifolds.lattice_orbits import KernelOrbits
from helmflow.shapes import Configs, Values


@final
class FreeField(Density):
    """Normal density of a translation-invariant field phi (batch, V) on a periodic lattice.

        log p(phi) = -1/2 sum_k a(k) |phi_k|^2 + 1/2 sum_k ln[a(k) / 2 pi]
        ln a(k) = sum_o c_o sum_{d in o} cos(k d)

    phi_k is the unitary Fourier transform. The logarithm of the spectrum is a kernel on
    displacements (`KernelOrbits`): its weights ``log_kernel`` (orbits,) define a(k) > 0 at any
    momentum, hence a field on a lattice of any extent. Initially ``a(k) = 1``.
    """

    def __init__(self, shape: tuple[int, int], orbits: KernelOrbits) -> None:
        super().__init__()
        self.shape = (shape[0], shape[1])
        self.log_kernel = nn.Parameter(torch.zeros(len(orbits), dtype=torch.float64))
        self.orbits = orbits
        self.register_buffer("counts", orbits.counts(self.shape), persistent=False)

    counts: Tensor

    def set_spectrum(self, spectrum: Tensor) -> None:
        """Take the weights closest to a spectrum a(k) > 0 given on the momenta (L1, L2)."""
        if spectrum.shape != self.shape or not bool((spectrum > 0).all()):
            raise InputError("spectrum", f"positive numbers {self.shape}", tuple(spectrum.shape))
        kernel = torch.fft.ifft2(spectrum.double().log()).real
        with torch.no_grad():
            self.log_kernel.copy_(self.orbits.fit(kernel))

    def log_spectrum(self) -> Tensor:
        """``ln a(k)`` at all momenta (L1, L2)."""
        return torch.fft.fft2((self.counts @ self.log_kernel).view(self.shape)).real

    def log_prob(self, x: Configs) -> Values:
        log_a = self.log_spectrum()
        z = self._scaled(x, (0.5 * log_a).exp())
        return -0.5 * z.square().sum(1) + self._log_normalizer(log_a)

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Configs, Values]:
        """Independent fields (n, V), differentiable in the weights, and their log densities."""
        require_count(n)
        log_a = self.log_spectrum()
        size = (n, self.shape[0] * self.shape[1])
        z = torch.randn(size, generator=generator, dtype=torch.float64).to(log_a)
        log_p = -0.5 * z.square().sum(1) + self._log_normalizer(log_a)
        return self._scaled(z, (-0.5 * log_a).exp()), log_p

    def score(self, x: Configs) -> Configs:
        """Gradient of the log density by the field (batch, V)."""
        return -self._scaled(x, self.log_spectrum().exp())

    def _log_normalizer(self, log_a: Tensor) -> Tensor:
        return 0.5 * log_a.sum() - 0.5 * log_a.numel() * math.log(2.0 * math.pi)

    def _scaled(self, x: Tensor, factor: Tensor) -> Tensor:
        require_event(x, torch.Size([self.shape[0] * self.shape[1]]))
        waves = torch.fft.rfft2(x.view(-1, *self.shape))
        half = factor[:, : waves.shape[2]]
        return torch.fft.irfft2(waves * half, s=self.shape).flatten(1)
