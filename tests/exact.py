"""Cases with exact answers: Crooks-consistent works, lognormal weights, AR(1), normal states."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def gaussian_works(
    rng: np.random.Generator, n_F: int, n_R: int, *, delta_f: float, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Forward and reverse works obeying Crooks' theorem exactly at the given delta_f.

    w_F ~ N(delta_f + sigma^2/2, sigma^2), w_R ~ N(-delta_f + sigma^2/2, sigma^2).
    """
    w_F = delta_f + 0.5 * sigma**2 + sigma * rng.normal(size=n_F)
    w_R = -delta_f + 0.5 * sigma**2 + sigma * rng.normal(size=n_R)
    return w_F, w_R


@dataclass(frozen=True)
class LognormalWeights:
    """Exact independence Metropolis with log w ~ N(-s2/2, s2).

    acceptance = erfc(sqrt(s2)/2), ess_fraction = exp(-s2); tau_acc and rho_1 by quadrature of
    E_p[(1 - a)^t] with a(l) = Phi(-(l + s2/2)/s) + exp(-l) Phi((l - s2/2)/s).
    """

    s2: float
    acceptance: float
    tau_acc: float

    @property
    def ess_fraction(self) -> float:
        return math.exp(-self.s2)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return -0.5 * self.s2 + math.sqrt(self.s2) * rng.normal(size=n)


LOGNORMAL = (
    LognormalWeights(0.01, 0.943628, 0.56297),
    LognormalWeights(0.1, 0.823063, 0.75625),
    LognormalWeights(0.5, 0.617075, 1.46989),
    LognormalWeights(1.0, 0.479500, 2.71397),
    LognormalWeights(1.5, 0.386476, 4.68562),
)


def autoregressive(rng: np.random.Generator, chains: int, n: int, r: float) -> np.ndarray:
    """Stationary AR(1) of unit variance: tau_int = (1 + r) / (2 (1 - r))."""
    x = np.empty((chains, n))
    x[:, 0] = rng.normal(size=chains)
    noise = math.sqrt(1.0 - r * r) * rng.normal(size=(chains, n))
    for t in range(1, n):
        x[:, t] = r * x[:, t - 1] + noise[:, t]
    return x


@dataclass(frozen=True)
class NormalState:
    """``u(x) = sum ((x - mean)/width)^2 / 2``: f = -sum ln(width) - (d/2) ln(2 pi)."""

    mean: Tensor
    width: Tensor

    @property
    def free_energy(self) -> float:
        d = self.mean.numel()
        return -float(self.width.log().sum()) - 0.5 * d * math.log(2.0 * math.pi)

    def reduced_potential(self, x: Tensor) -> Tensor:
        return 0.5 * ((x - self.mean) / self.width).square().sum(-1)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn((n, self.mean.numel()), generator=generator, dtype=torch.float64)
        return self.mean + self.width * z
