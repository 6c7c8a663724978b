"""A search for modes that a flow has lost, by means that know nothing of how it was made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from helmflow.densities.base import Density
from helmflow.densities.local import FREEDOM, LocalDensity, Mixture
from helmflow.families.density.pool import Pool
from helmflow.families.density.probes import Probes, probes
from helmflow.families.density.walks import Walked, powers, walk
from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.stereographic import from_plane, to_plane
from helmflow.objectives.score_function import trust_region_power
from helmflow.shapes import Configs, Values

LOST = math.log(10.0)
"""Excess of ln p - ln q over ln Z, in nats, from which on a flow has lost a place."""

POOR = 0.1
"""ESS per draw of a flow below which every mode that is found is of use."""

RADII = 3.0
"""Points are in one mode within so many times the median distance of its lowest walk."""

FITS, RADIUS = 6, 1.0
"""Rounds in which a local density is fitted, and nats that each may move towards the target."""

REFITS = 4
"""Rounds in which all local densities of a mixture are fitted together."""

FEWEST, MOST_GROUPS = 3, 16
"""Points that make a group, and groups of one round."""

FAR = 3.0
"""Largest coordinate that counts in moments of a local density: 113 degrees."""


@dataclass(frozen=True)
class SearchPlan:
    """How long a search is: quasi-random probes, walks from them, and rounds.

    ``matters``: mass, as a part of all, from which a lost mode is of interest.
    """

    probes: int = 65_536
    walks: int = 96
    rounds: int = 4
    draws: int = 2048
    matters: float = 1e-4


@dataclass(frozen=True)
class Lost:
    """A density about a mode, and the part of all mass that a flow has lost there."""

    density: LocalDensity
    share: float


@dataclass(frozen=True)
class Search:
    """What a search ends with: densities about lost modes, and how to mix the flow with them.

    ``unfinished``: the mass found in its last round, zero once a round finds no more.
    """

    modes: tuple[LocalDensity, ...] = ()
    log_weights: Tensor | None = None
    unfinished: float = 0.0


def search_modes(
    manifold: Manifold,
    u: ReducedPotential,
    flow: Density,
    plan: SearchPlan,
    generator: Generator,
) -> Search:
    """Look for places where p is much larger than q, until a round finds none of any mass.

    Energies at quasi-random probes; walks from those with the largest p/q, and annealed walks
    from the others; where they stay, a density is fitted to the target by importance sampling,
    and joins the flow in a mixture whose weights are those of maximum likelihood.
    """
    start = probes(manifold, u, plan.probes, generator)
    log_p = -u(start.x)
    with torch.no_grad():
        log_flow = torch.cat([flow.log_prob(part) for part in start.x.split(8192)])
    pool, density, log_q = Pool([flow], u, plan.draws, generator), flow, log_flow
    poor = pool.ess_fraction(pool.log_q[0]) < POOR
    used, found = torch.zeros(len(log_p), dtype=torch.bool), Search()
    for k in range(plan.rounds):
        log_w = torch.where(used | log_p.isneginf(), -math.inf, log_p - log_q)
        chosen = log_w.topk(plan.walks).indices
        used[chosen] = True
        n_annealed = 0 if k else plan.walks
        chosen = torch.cat((chosen, torch.arange(n_annealed)))
        walked = walk(
            manifold,
            u,
            Probes(start.x[chosen], start.unit[chosen]),
            powers(plan.walks, n_annealed, manifold.dim),
            plan.probes ** (-1.0 / manifold.dim),
            generator,
        )
        everywhere = poor and k == 0
        lost = _lost(manifold, u, density, walked, pool.log_z, everywhere, generator)
        lost = [mode for mode in lost if everywhere or mode.share > plan.matters]
        if not lost:
            return replace(found, unfinished=0.0)
        modes = (*found.modes, *(mode.density for mode in lost))
        for _ in range(REFITS):
            pool = Pool([flow, *modes], u, plan.draws, generator)
            log_weights = pool.log_mixture()
            modes = _refitted(manifold, pool, modes, log_weights)
        pool = Pool([flow, *modes], u, plan.draws, generator)
        log_weights = pool.log_mixture()
        found = Search(modes, log_weights, sum(mode.share for mode in lost))
        density = Mixture([flow, *modes], log_weights)
        with torch.no_grad():
            rows = torch.stack([log_flow, *(mode.log_prob(start.x) for mode in modes)])
        log_q = torch.logsumexp(rows + log_weights[:, None], 0)
    return found


def _lost(
    manifold: Manifold,
    u: ReducedPotential,
    q: Density,
    walked: Walked,
    log_z: float,
    everywhere: bool,
    generator: Generator,
) -> list[Lost]:
    """The modes in which walks stay and q has next to nothing; all of them if ``everywhere``."""

    def missing(x: Configs) -> Values:
        """u where p is far above q, with a soft wall around it."""
        log_q = torch.cat([q.log_prob(part) for part in x.split(8192)])
        value = u(x)
        return value + torch.nn.functional.softplus(LOST + log_q + log_z + value)

    target = u if everywhere else missing
    with torch.no_grad():
        x = walked.x.flatten(0, 1)
        value = target(x).reshape(walked.value.shape)
        lost = torch.isfinite(value) & (everywhere | (value - walked.value < math.log(2.0)))
        found = [_fitted(manifold, target, x, generator) for x in _groups(manifold, walked, lost)]
    modes = [density for density in found if density is not None]
    return [Lost(mode, lost_mass(u, q, [mode], log_z, 1024, generator)[0]) for mode in modes]


def lost_mass(
    u: ReducedPotential,
    q: Density,
    modes: Sequence[LocalDensity],
    log_z: float,
    n: int,
    generator: Generator,
) -> tuple[float, float]:
    """Mass that lies where ``ln p - ln q - ln Z > LOST``, as a part of Z, with standard error.

    From n points of every local density, weighted by the balance heuristic; what they do not
    reach is not counted.
    """
    pool = Pool(modes, u, n, generator)
    with torch.no_grad():
        log_q = q.log_prob(pool.x)
    inside = (pool.log_p - log_q - log_z > LOST) & ~pool.log_w.isneginf()
    share = torch.where(inside, (pool.log_w - log_z).exp(), 0.0)
    return float(share.mean()), float(share.std()) / math.sqrt(len(share))


def _refitted(
    manifold: Manifold, pool: Pool, modes: Sequence[LocalDensity], log_weights: Tensor
) -> tuple[LocalDensity, ...]:
    """A step of expectation and maximisation of all local densities towards the target.

    Source: O. Cappe et al., doi:10.1007/s11222-008-9059-x, for Student's t.
    """
    member = torch.softmax(pool.log_q + log_weights[:, None], 0) * torch.softmax(pool.log_w, 0)
    refitted = []
    for mode, weights in zip(modes, member[1:], strict=True):
        v = _coordinates(manifold, mode.centre, pool.x)
        z = torch.linalg.solve_triangular(mode.scale, v.T, upper=False)
        weights = weights / weights.sum() * (FREEDOM + manifold.dim)
        weights = weights / (FREEDOM + z.square().sum(0))
        centre = (weights / weights.sum()) @ v
        at = from_plane(manifold, mode.centre, centre[None])[0]
        enough = weights.sum() ** 2 > FEWEST * manifold.dim * weights.square().sum()
        moved = _about(manifold, at, pool.x, weights) if bool(enough) else None
        refitted.append(mode if moved is None else moved)
    return tuple(refitted)


def _groups(manifold: Manifold, walked: Walked, lost: Tensor) -> list[Configs]:
    """Lost points of walks that are in one mode, about the lowest, which comes first."""
    x, value = walked.x[lost], walked.value[lost]
    walks = torch.arange(lost.shape[1]).expand_as(lost)[lost]
    groups, left = [], value.argsort()
    while len(left) and len(groups) < MOST_GROUPS:
        centre = x[left[0]]
        apart = manifold.distance(x[left], centre.expand_as(x[left]))
        size = apart[walks[left] == walks[left[0]]].median()
        near = apart <= RADII * size
        if int(near.sum()) >= FEWEST:
            groups.append(x[left[near]])
        left = left[~near]
    return groups


def _fitted(
    manifold: Manifold, u: ReducedPotential, x: Configs, generator: Generator
) -> LocalDensity | None:
    """A local density fitted to the target, from points x about the first of them."""
    weights = torch.full((len(x),), 1.0 / len(x), dtype=torch.float64)
    density = _about(manifold, x[0], x, weights)
    for _ in range(FITS):
        if density is None:
            return None
        pool = Pool([density], u, 256 + 64 * manifold.dim, generator)
        if not bool(torch.isfinite(pool.log_w).any()):
            return None
        power = trust_region_power(pool.log_w.clamp_min(-1e6), RADIUS)
        weights = torch.softmax(power * pool.log_w, 0)
        v = _coordinates(manifold, density.centre, pool.x)
        centre = from_plane(manifold, density.centre, (weights @ v)[None])[0]
        density = _about(manifold, centre, pool.x, weights)
    return density


def _about(manifold: Manifold, centre: Tensor, x: Configs, weights: Values) -> LocalDensity | None:
    """The local density about a centre with the second moments of weighted points."""
    v = _coordinates(manifold, centre, x)
    moments = (weights[:, None] * v).T @ v
    # few points, or points on a line, tell little of what lies between the axes
    n = 1.0 / float(weights.square().sum())
    own = n / (n + 2.0 * manifold.dim)
    diagonal = moments.diagonal().clamp_min(1e-24).diag()
    scale, info = torch.linalg.cholesky_ex(own * moments + (1.0 - own) * diagonal)
    return LocalDensity(manifold, centre, scale) if info == 0 else None


def _coordinates(manifold: Manifold, centre: Tensor, x: Configs) -> Tensor:
    """Coordinates of those rows of points that are nearest to a centre, for their moments.

    No point on the far side of a compact factor makes them infinite.
    """
    rows = torch.stack([x, *manifold.aliases(x)])
    nearest = (rows - centre).square().sum(-1).argmin(0)
    v, _ = to_plane(manifold, centre, rows[nearest, torch.arange(len(x))])
    ends = [FAR if factor.compact else math.inf for factor in manifold.factors]
    dims = torch.tensor([factor.dim for factor in manifold.factors])
    most = torch.tensor(ends, dtype=torch.float64).repeat_interleave(dims)
    return torch.maximum(torch.minimum(v, most), -most)
