"""Hamiltonian Monte Carlo of SU(N) links."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from helmflow.manifolds.special_unitary import exponential, hermitian_part
from helmflow.shapes import Configs, Values

Force = Callable[[Configs], tuple[Values, Configs]]
"""Reduced potential (batch,) and Hermitian F with ``du = sum tr(X F)`` for ``dU = i X U``."""


def group_hmc(
    x: Configs, force: Force, *, step: float, n_steps: int, generator: Generator
) -> tuple[Configs, Tensor]:
    """One trajectory of every chain of links (batch, ..., N, N); returns links and who accepted.

    Momenta are traceless Hermitian matrices of density ``exp(-tr p^2)``; leapfrog steps ``p -> p -
    h F/2`` and ``U -> exp(i h p) U`` with a Metropolis test, so that any step is exact. The step
    is drawn from ``step (0.8 ... 1.2)``, the same for all.
    Source: S. Duane et al., doi:10.1016/0370-2693(87)91197-X.
    """
    noise = torch.randn(2, *x.shape, generator=generator, dtype=torch.float64) * 0.5**0.5
    # with real and imaginary parts of variance 1/2 the density is exp(-tr p^2)
    p = hermitian_part(torch.complex(noise[0], noise[1]))
    scale = 0.8 + 0.4 * float(torch.rand(1, generator=generator, dtype=torch.float64))
    h = scale * step
    u, f = force(x)
    before = u + _kinetic(p)
    y = x
    p = p - 0.25 * h * f
    for k in range(n_steps):
        y = exponential(h * p) @ y
        u, f = force(y)
        p = p - (0.5 if k + 1 < n_steps else 0.25) * h * f
    chance = torch.rand(len(x), generator=generator, dtype=torch.float64)
    taken = chance.log() < before - u - _kinetic(p)
    return torch.where(taken.reshape(-1, *[1] * (x.ndim - 1)), y, x), taken


def _kinetic(p: Tensor) -> Values:
    return p.abs().square().flatten(1).sum(1)
