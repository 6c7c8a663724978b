"""Stereographic coordinates about a point: a manifold as R^dim with a known volume element."""

import torch
from torch import Tensor

from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import Sphere, normalised
from helmflow.manifolds.torus import wrap
from helmflow.shapes import Configs, Values


def to_plane(manifold: Manifold, centre: Tensor, x: Configs) -> tuple[Tensor, Values]:
    """Coordinates v (n, dim) of points about ``centre`` (n_coordinates,), and ln|dx/dv| (n,).

    ``v = 2 tan(d/2)`` for every angle d to the centre, the same along the geodesic on spheres, the
    difference itself on lines; ``|dx/dv| = prod (1 + |v|^2/4)^-dim`` over angles and spheres.
    """
    columns, log_volume = [], torch.zeros_like(x[:, 0])
    for factor, c, part in _parts(manifold, centre, x):
        if factor.n_angles:
            v = 2.0 * torch.tan(0.5 * factor.log(c.expand_as(part), part))
            log_volume = log_volume - torch.log1p(0.25 * v.square()).sum(-1)
        elif isinstance(factor.cover, Sphere):
            # the far pole is a point of no weight, which must stay finite
            height = (1.0 + part @ c).clamp_min(1e-15)
            v = 2.0 * (part @ factor.cover.tangent_basis(c)) / height[:, None]
            log_volume = log_volume - factor.dim * torch.log1p(0.25 * v.square().sum(-1))
        else:
            v = part - c
        columns.append(v)
    return torch.cat(columns, -1), log_volume


def from_plane(manifold: Manifold, centre: Tensor, v: Tensor) -> Configs:
    """The points (n, n_coordinates) of coordinates v (n, dim) about ``centre``."""
    dims = [factor.dim for factor in manifold.factors]
    columns = []
    places = zip(manifold.factors, centre.split(manifold.sizes), v.split(dims, -1), strict=True)
    for factor, c, part in places:
        if factor.n_angles:
            columns.append(wrap(c + 2.0 * torch.atan(0.5 * part)))
        elif isinstance(factor.cover, Sphere):
            s = 0.25 * part.square().sum(-1, keepdim=True)
            x = (1.0 - s) * c + part @ factor.cover.tangent_basis(c).T
            columns.append(normalised(x / (1.0 + s)))
        else:
            columns.append(c + part)
    return torch.cat(columns, -1)


def _parts(
    manifold: Manifold, centre: Tensor, x: Configs
) -> list[tuple[Manifold, Tensor, Configs]]:
    """Every factor with its part of the centre and of the points."""
    sizes = manifold.sizes
    return list(zip(manifold.factors, centre.split(sizes), x.split(sizes, -1), strict=True))
