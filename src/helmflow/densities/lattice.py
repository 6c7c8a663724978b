"""The base of a flow for atomic solids: noise about the sites of a lattice, anywhere in a cell."""

import math
from typing import final

import torch
from torch import Generator, Tensor

from helmflow.bijectors.base import require_event
from helmflow.densities.base import Density, require_count
from helmflow.errors import InputError
from helmflow.manifolds.periodic import PeriodicCell
from helmflow.shapes import Configs, Particles, Values


@final
class TruncatedNoise:
    """Isotropic normal noise of each particle, cut off at a distance.

        p(v) = exp(-|v|^2 / 2 s^2) / [(2 pi s^2)^(3/2) P],   |v| < radius,

    with ``scale`` = s and P the probability that an uncut |v| is below ``radius``.
    """

    def __init__(self, scale: float, radius: float) -> None:
        for name, value in (("scale", scale), ("radius", radius)):
            if not (math.isfinite(value) and value > 0):
                raise InputError(name, "a positive length", value)
        self.scale, self.radius = scale, radius
        half = torch.tensor([1.5, 0.5 * (radius / scale) ** 2], dtype=torch.float64)
        inside = torch.special.gammainc(half[0], half[1]).item()
        self.log_normalizer = 1.5 * math.log(2 * math.pi * scale**2) + math.log(inside)

    def sample(self, n: int, n_particles: int, generator: Generator) -> Particles:
        """Independent noise (n, n_particles, 3), by rejection."""
        v = torch.empty(n * n_particles, 3, dtype=torch.float64)
        rejected = torch.ones(len(v), dtype=torch.bool)
        while bool(rejected.any()):
            fresh = torch.randn(int(rejected.sum()), 3, generator=generator, dtype=v.dtype)
            v[rejected] = self.scale * fresh
            rejected = v.norm(dim=1) >= self.radius
        return v.view(n, n_particles, 3)

    def log_prob(self, v: Particles) -> Values:
        """Log density (batch,) of all particles together; -inf beyond the radius."""
        r2 = v.square().sum(2)
        each = -0.5 * r2 / self.scale**2 - self.log_normalizer
        return each.masked_fill(r2 >= self.radius**2, -math.inf).sum(1)


@final
class PinnedNoise(Density):
    """Displacements of a crystal of n particles: all but the last have noise about their sites.

    With v_i = u_i - u_n independent for i < n, the density of displacements u (batch, 3n) of
    zero mean, per volume of orthonormal coordinates of that space, is

        log p(u) = sum_i log p(v_i) + (3/2) ln n
    """

    def __init__(self, n_particles: int, noise: TruncatedNoise) -> None:
        super().__init__()
        self.n_particles, self.noise = n_particles, noise

    def log_prob(self, x: Configs) -> Values:
        require_event(x, torch.Size([3 * self.n_particles]))
        u = x.view(len(x), -1, 3)
        return self.noise.log_prob(u[:, :-1] - u[:, -1:]) + 1.5 * math.log(self.n_particles)

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Configs, Values]:
        require_count(n)
        v = self.noise.sample(n, self.n_particles - 1, generator)
        u = torch.cat([v, v.new_zeros(n, 1, 3)], 1)
        u = (u - u.mean(1, keepdim=True)).flatten(1)
        return u, self.noise.log_prob(v) + 1.5 * math.log(self.n_particles)


@final
class NoisyLattice(Density):
    """Positions x (batch, m, 3) of m identical particles in a cell: one near each site.

        log p(x) = sum_i log p(x_i - nearest site) - ln m!

    with the noise cut off at half the smallest distance between sites, and a random permutation
    of the labels. -inf where two particles share a site. ``sites`` (m, 3), ``cell`` (3, 3).
    """

    def __init__(self, sites: Tensor, cell: Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("sites", sites)
        self.cell = PeriodicCell(cell)
        apart = self._from_sites(sites[None]).norm(dim=3)[0].fill_diagonal_(math.inf).min()
        self.noise = TruncatedNoise(scale, 0.5 * apart.item())

    sites: Tensor

    def log_prob(self, x: Particles) -> Values:
        """Log density (batch,) of positions, in any periodic image and order."""
        require_event(x, self.sites.shape)
        v = self._from_sites(x)
        nearest = v.square().sum(3).argmin(2)
        from_nearest = v.gather(2, nearest[..., None, None].expand(-1, -1, 1, 3)).squeeze(2)
        taken = torch.zeros_like(nearest).scatter_(1, nearest, 1)
        log_p = self.noise.log_prob(from_nearest) - math.lgamma(len(self.sites) + 1)
        return log_p.masked_fill(taken.sum(1) < len(self.sites), -math.inf)

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Particles, Values]:
        """Independent draws, wrapped into the cell, and their log densities."""
        require_count(n)
        m = len(self.sites)
        v = self.noise.sample(n, m, generator)
        log_p = self.noise.log_prob(v) - math.lgamma(m + 1)
        order = torch.rand(n, m, generator=generator, dtype=torch.float64).argsort(1)
        x = torch.take_along_dim(self.cell.wrap(self.sites + v), order[..., None], dim=1)
        return x, log_p

    def _from_sites(self, x: Particles) -> Tensor:
        """Nearest-image vectors (batch, m, sites, 3) from every site to every particle."""
        return self.cell.minimum_image(x[:, :, None] - self.sites)


@final
class RandomTranslation(Density):
    """Adds a particle at the origin and moves everything by a uniform random vector.

        log p(x_1 ... x_n) = log q(x_1 - x_n, ..., x_(n-1) - x_n) - ln V

    with q a density of n - 1 positions in the periodic cell (3, 3, rows are vectors). Positions
    x (batch, n, 3) are wrapped into the cell. Together with permutations of the n - 1 others in q
    these are all configurations of one crystal: translations V times (n - 1)! labelings.
    """

    def __init__(self, density: Density, cell: Tensor) -> None:
        super().__init__()
        self.density = density
        self.cell = PeriodicCell(cell)

    def log_prob(self, x: Particles) -> Values:
        relative = self.cell.wrap(x[:, :-1] - x[:, -1:])
        return self.density.log_prob(relative) - math.log(self.cell.volume)

    def sample_and_log_prob(self, n: int, generator: Generator) -> tuple[Particles, Values]:
        relative, log_q = self.density.sample_and_log_prob(n, generator)
        fractions = torch.rand(n, 1, 3, generator=generator, dtype=torch.float64)
        shift = fractions @ self.cell.matrix
        x = self.cell.wrap(torch.cat([relative + shift, shift], 1))
        return x, log_q - math.log(self.cell.volume)
