"""Well-spread points of spheres, for potentials that sit on fixed centres."""

import math

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.manifolds.sphere import Sphere, normalised

REPULSION_STEPS = 80


def spread_points(sphere: Sphere, n: int, generator: torch.Generator) -> Tensor:
    """n unit vectors (n, dim + 1) far from one another: a spiral on S^2, repelled points above."""
    if n < 1:
        raise InputError("n", "at least one point", n)
    if sphere.dim == 2:
        return _fibonacci(n)
    x = sphere.uniform(n, generator)
    spacing = math.exp((sphere.log_volume - math.log(n)) / sphere.dim)
    for step in range(REPULSION_STEPS):
        square = (2.0 - 2.0 * x @ x.T).clamp_min(1e-6 * spacing**2)
        square.fill_diagonal_(math.inf)
        weight = square ** (-0.5 * sphere.dim - 1.0)
        push = sphere.tangent(x, weight.sum(-1, keepdim=True) * x - weight @ x)
        length = push.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        step_size = 0.3 * spacing * (1.0 - step / REPULSION_STEPS)
        typical = length.median()
        x = normalised(x + push * (step_size / torch.maximum(length, typical)))
    return x


def _fibonacci(n: int) -> Tensor:
    k = torch.arange(n, dtype=torch.float64) + 0.5
    height = 1.0 - 2.0 * k / n
    angle = math.pi * (3.0 - math.sqrt(5.0)) * k
    radius = (1.0 - height.square()).sqrt()
    return torch.stack((radius * angle.cos(), radius * angle.sin(), height), -1)
