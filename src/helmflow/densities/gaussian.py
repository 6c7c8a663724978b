"""Normal densities given by their precision matrix, with or without uniform translations."""

import math

import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.shapes import Values


class Gaussian(Density):
    """Normal density about zero whose negative logarithm is a quadratic form.

    p(u) = exp(-u K u / 2) / z,   ln z = (m/2) ln 2 pi - (1/2) ln det' K,   m = n - n_translations

    ``u`` is (batch, n). With ``n_translations = d`` the coordinates are d-vectors on n/d sites and
    the density lives on the subspace of zero mean displacement: det' leaves the d uniform
    translations out, and the measure is the Lebesgue measure of that subspace in orthonormal
    coordinates. Raises InputError when K is not positive definite there.
    """

    def __init__(self, precision: Tensor, *, n_translations: int = 0) -> None:
        super().__init__()
        n = len(precision)
        self.n_translations = n_translations
        self.dim = n - n_translations
        precision = 0.5 * (precision + precision.T)
        lift = precision.diagonal().mean()
        lifted = self._without_translations(self._without_translations(precision).T)
        self.precision = lifted.contiguous()
        if n_translations:
            # Lifting the null directions keeps the factorisation a plain Cholesky, which is
            # twenty times cheaper than the eigenvectors and serves every purpose here.
            sites = n // n_translations
            uniform = torch.eye(n_translations, dtype=precision.dtype).repeat(sites, 1)
            null = uniform @ uniform.T / sites
            lifted = lifted + lift * null
        root, info = torch.linalg.cholesky_ex(lifted)
        if info.item():
            lowest = torch.linalg.eigvalsh(self.precision)
            bad = lowest[lowest < -1e-9 * lowest[-1]]
            count, worst = max(len(bad), 1), lowest[0].item()
            raise InputError(
                "structure",
                "a minimum of the potential (all modes real)",
                f"{count} imaginary mode(s), lowest force constant {worst:.4g} kT/length^2",
            )
        inverse_root = torch.linalg.solve_triangular(
            root, torch.eye(n, dtype=precision.dtype), upper=False
        )
        covariance = inverse_root.T @ inverse_root
        if n_translations:
            covariance = covariance - null / lift
        self.covariance = covariance.contiguous()
        self._root_transposed = root.T.contiguous()
        self._inverse_root = inverse_root
        log_det = 2.0 * root.diagonal().log().sum().item()
        if n_translations:
            log_det -= n_translations * math.log(lift.item())
        self.log_normalizer = 0.5 * self.dim * math.log(2 * math.pi) - 0.5 * log_det
        """ln z, so that -ln z is the free energy of u K u / 2 in kT."""

    def _without_translations(self, u: Tensor) -> Tensor:
        d = self.n_translations
        if not d:
            return u
        sites = u.reshape(len(u), -1, d)
        return (sites - sites.mean(1, keepdim=True)).reshape(u.shape)

    def log_prob(self, u: Tensor) -> Values:
        """Normalised log density of u (batch, n)."""
        return -0.5 * (u * (u @ self.precision)).sum(1) - self.log_normalizer

    def sample(self, n: int, generator: Generator) -> Tensor:
        """Independent draws (n, dim of u)."""
        noise = torch.randn(n, len(self.precision), generator=generator, dtype=torch.float64)
        return self._without_translations(noise @ self._inverse_root)

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Tensor, Values]:
        """Independent draws and their log densities."""
        u = self.sample(n, generator)
        return u, self.log_prob(u)

    def velocity_and_momentum(self, n: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw v ~ N(0, K^-1) together with p = K v, both (n, dim of u)."""
        noise = torch.randn(n, len(self.precision), generator=generator, dtype=torch.float64)
        velocity = self._without_translations(noise @ self._inverse_root)
        momentum = self._without_translations(noise @ self._root_transposed)
        return velocity, momentum
