"""What a grid knows of a density and of the flow that was fitted to it."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from helmflow.densities.base import Density
from helmflow.families.density.potential import CheckedPotential

AGREEMENT = 1e-8
"""Of ln Z on two grids: an integral counts as exact below it."""

IN_PARTS = 8192
"""Points whose log q is computed at once: more would need a large temporary."""

MAP_STEPS = 96
"""Of the picture of a surface, along one axis."""


@dataclass(frozen=True)
class Quadrature:
    """What a grid says: ln Z, KL(q || p) in nats, the integral of q, and the best ESS per sample.

    ``change`` of ln Z from a coarser grid, which is its error where the density is not smooth.
    ``converged`` tells whether a coarser grid gives the same ln Z and the integral of q is one.
    ``step`` in radians: what is narrower may hide between the nodes.
    """

    log_z: float
    change: float
    kl: float
    mass: float
    ess_fraction: float
    converged: bool
    step: float


def integrate_on_grid(u: CheckedPotential, flow: Density) -> Quadrature | None:
    """ln Z, KL and normalisation by quadrature; None where no grid is fine enough.

    Nor is there one that the budget of energies does not reach.
    """
    sizes = u.manifold.grid_sizes
    if sizes is None:
        return None
    coarse, fine = (u.manifold.quadrature(size) for size in sizes)
    if len(coarse[0]) + len(fine[0]) > u.budget.left:
        return None
    energies = [u(x) for x, _ in (coarse, fine)]
    log_z = [
        float(torch.logsumexp(w.log() - energy, 0))
        for energy, (_, w) in zip(energies, (coarse, fine), strict=True)
    ]
    nodes, weights = fine
    with torch.no_grad():
        log_q = torch.cat([flow.log_prob(part) for part in nodes.split(IN_PARTS)])
    log_p = -energies[1] - log_z[1]
    q = log_q.exp() * weights
    log_w = (log_p - log_q).numpy()
    # w - 1 - ln w is never negative: no cancellation, however small the divergence
    terms = np.where(np.isfinite(log_w), np.expm1(log_w) - log_w, math.inf)
    mass = float(q.sum())
    second_moment = float((q.numpy() * np.exp(2.0 * log_w)).sum())
    return Quadrature(
        log_z=log_z[1],
        change=abs(log_z[1] - log_z[0]),
        kl=float(q.numpy() @ terms) - (1.0 - mass),
        mass=mass,
        ess_fraction=1.0 / second_moment,
        converged=abs(log_z[1] - log_z[0]) < AGREEMENT and abs(mass - 1.0) < AGREEMENT,
        step=u.manifold.grid_span / sizes[1],
    )


def surface(u: CheckedPotential) -> dict[str, np.ndarray]:
    """``-u`` on a grid for the picture of a surface, empty for other manifolds.

    Empty, too, where the budget of energies does not reach it.

    ``map_log_p`` (n, m) at the angles ``map_first`` (n,) and ``map_second`` (m,) of
    `Manifold.picture`.
    """
    picture = u.manifold.picture(MAP_STEPS)
    if picture is None or len(picture[2]) > u.budget.left:
        return {}
    first, second, points = picture
    values = -u(points).reshape(len(first), len(second))
    return {
        "map_log_p": values.numpy(),
        "map_first": first.numpy(),
        "map_second": second.numpy(),
    }
