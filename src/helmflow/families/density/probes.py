"""Where a search for modes starts: quasi-random points of a manifold."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from helmflow.generalised_work import ReducedPotential
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.sphere import normalised
from helmflow.shapes import Configs

OCTAVES, PER_OCTAVE = range(-16, 17), 32
"""Scales of real lines that are tried, as powers of two, and points at each."""

WITHIN = 50.0
"""Nats above the lowest energy up to which a scale counts."""

SPAN = 12.0
"""Octaves of real lines that probes cover, downwards from the largest that counts."""


@dataclass(frozen=True)
class Probes:
    """Points x (n, n_coordinates), and the lengths that each coordinate is measured in.

    ``unit`` (n, n_coordinates): 1 for angles and unit vectors, the scale of the probe for lines.
    """

    x: Configs
    unit: Tensor


def probes(manifold: Manifold, u: ReducedPotential, n: int, generator: Generator) -> Probes:
    """n Sobol points: uniform on compact factors, on lines normal at scales that u tells.

    Neither a flow nor its base has a say in them.
    """
    if manifold.compact:
        return _draw(manifold, n, generator, 0.0, 0.0)
    lowest = [
        u(_draw(manifold, PER_OCTAVE, generator, float(k), 0.0).x).min().item() for k in OCTAVES
    ]
    near = [k for k, value in zip(OCTAVES, lowest, strict=True) if value <= min(lowest) + WITHIN]
    return _draw(manifold, n, generator, max(near, default=0) + 1.0, SPAN)


def _draw(manifold: Manifold, n: int, generator: Generator, octave: float, span: float) -> Probes:
    """Points whose lines have scales from ``2^(octave - span)`` to ``2^octave``."""
    seed = int(torch.randint(2**31, (), generator=generator))
    engine = torch.quasirandom.SobolEngine(1 + manifold.n_coordinates, scramble=True, seed=seed)
    cube = engine.draw(n, dtype=torch.float64).clamp(1e-12, 1.0 - 1e-12)
    scale = 2.0 ** (octave - span * cube[:, :1])
    columns, units = [], []
    for factor, part in zip(manifold.factors, cube[:, 1:].split(manifold.sizes, 1), strict=True):
        unit = torch.ones_like(part)
        if factor.n_angles:
            columns.append(2.0 * math.pi * part)
        elif factor.compact:
            columns.append(normalised(torch.special.ndtri(part)))
        else:
            unit = scale * unit
            columns.append(torch.special.ndtri(part) * unit)
        units.append(unit)
    return Probes(torch.cat(columns, 1), torch.cat(units, 1))
