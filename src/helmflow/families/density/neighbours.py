"""Which angles an energy couples, from its values, and the shortest conditionals for them."""

import torch
from torch import Tensor

from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.base import Manifold

POINTS = 4
"""At which every pair of angles is tried."""

ROUNDING = 1e-9
"""Of the size of the energies: below it a difference is zero."""

BATCH = 4096


def interactions(manifold: Manifold, u: ReducedPotential, generator: torch.Generator) -> Tensor:
    """Which pairs of angles the energy couples, (D, D), symmetric, from its values alone.

    Two angles are not coupled if moving both changes u by the sum of what moving each does, at
    all of a few random points. A pair with an infinite energy counts as coupled.
    """
    dim = manifold.dim
    first, second = torch.triu_indices(dim, dim, 1)
    one = torch.eye(dim, dtype=torch.bool)
    moved = torch.cat((torch.zeros(1, dim, dtype=torch.bool), one, one[first] | one[second]))
    coupled = torch.zeros(dim, dim, dtype=torch.bool)
    for _ in range(POINTS):
        x, other = manifold.uniform(2, generator)
        with torch.no_grad():
            value = torch.cat([u(torch.where(m, other, x)) for m in moved.split(BATCH)])
        start, single, pair = value[0], value[1 : dim + 1], value[dim + 1 :]
        excess = pair - single[first] - single[second] + start
        scale = 1.0 + torch.nan_to_num(value, posinf=0.0).abs().max()
        coupled[first, second] |= ~(excess.abs() < ROUNDING * scale)
    return coupled | coupled.T


def elimination(coupled: Tensor) -> tuple[list[int], list[list[int]]]:
    """An order of the variables, and for each those before it that its conditional depends on.

    Integrating out a variable couples its neighbours; the last of the order is the one with the
    fewest, and so on down. Exact for any density with these pairs of coupled variables: then
    ``p(x) = prod_k p(x_k | x_j for j in seen[k])``.
    """
    graph = {k: set(row.nonzero()[:, 0].tolist()) for k, row in enumerate(coupled)}
    order: list[int] = []
    seen: list[list[int]] = [[] for _ in graph]
    while graph:
        last = min(graph, key=lambda k: (len(graph[k]), -k))
        around = graph.pop(last)
        order.insert(0, last)
        seen[last] = sorted(around)
        for k in around:
            graph[k] = (graph[k] | around) - {k, last}
    return order, seen
