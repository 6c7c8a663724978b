"""Gaussian bases made from a potential: harmonic (from its Hessian) and self-consistent."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.manifolds.symmetry import SymmetryGroup
from helmflow.shapes import Values

ValueAndGradient = Callable[[Tensor], tuple[Values, Tensor]]

HALVINGS = 8
"""Times that a step of the self-consistent fit is halved before the fit counts as unstable."""

Recentre = Callable[[Gaussian, Tensor], ValueAndGradient]
"""The Gaussian so far and the damped mean gradient (n,) at its mean -> the target seen from a new
origin."""


def force_constants(target: ValueAndGradient, symmetry: SymmetryGroup, *, step: float) -> Tensor:
    """Hessian of a reduced potential at u = 0 by central differences of its gradient.

    K_ij = [ g_j(u + h e_i) - g_j(u - h e_i) ] / 2h   for symmetry-distinct rows i only

    ``step`` = h in the length unit; returns (n, n) in kT/length^2, invariant under ``symmetry``.
    """
    n_sites, d = symmetry.translations.shape[1], symmetry.rotations.shape[1]
    rows = {}
    for site in symmetry.representatives():
        u = torch.zeros(2 * d, n_sites * d, dtype=torch.float64)
        for component in range(d):
            u[component, site * d + component] = step
            u[d + component, site * d + component] = -step
        _, gradient = target(u)
        row = (gradient[:d] - gradient[d:]) / (2 * step)
        rows[site] = row.reshape(d, n_sites, d).numpy()
    return torch.from_numpy(symmetry.expand(rows))


def self_consistent(
    base: Gaussian,
    target: ValueAndGradient,
    symmetry: SymmetryGroup,
    *,
    iterations: int,
    n_samples: int,
    generator: Generator,
    recentre: Recentre | None = None,
) -> Gaussian:
    """The Gaussian whose force constants are the target's mean Hessian under itself.

    K <- K + 2/(k + 2) < K u (g - K u)^T >_K,  k = 0, 1, ...   (Stein's < grad grad u_target >)

    Full steps would oscillate where anharmonicity is strong; shrinking ones also average noise.

    The fixed point minimises KL(base || target) over Gaussians of zero mean (self-consistent
    harmonic approximation; Hooton 1955, doi:10.1080/14786440408520575). ``n_samples`` draws per
    iteration, averaged over ``symmetry``; the product with its order sets the noise of K.
    ``recentre`` moves the origin of u after every iteration, for Gaussians of any mean.
    """
    for k in range(iterations):
        correction = torch.zeros_like(base.precision)
        pull = torch.zeros(len(base.precision), dtype=torch.float64)
        drawn = 0
        while drawn < n_samples:
            z = base.noise(min(2048, n_samples - drawn), generator)
            _, gradient = target(base.colour(z))
            force = base.force(z)
            correction += force.T @ (gradient - force)
            pull += gradient.sum(0)
            drawn += len(z)
        mean = symmetry.average((correction / drawn).numpy())
        base = _corrected(base, 2.0 / (k + 2.0) * torch.from_numpy(mean))
        if recentre is not None:
            target = recentre(base, 2.0 / (k + 2.0) * pull / drawn)
    return base


def _corrected(base: Gaussian, correction: Tensor) -> Gaussian:
    """The Gaussian of precision K + correction, or of half of it and so on where that is too much.

    Raises InputError where none of `HALVINGS` is positive definite.
    """
    for halved in range(HALVINGS + 1):
        precision = base.precision + 0.5**halved * correction
        try:
            return Gaussian(precision, n_translations=base.n_translations, cells=base.cells)
        except InputError:
            if halved == HALVINGS:
                raise
    raise AssertionError
