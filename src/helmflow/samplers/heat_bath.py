"""Heat bath of U(1) links: every link drawn anew given all others."""

import torch
from torch import Generator, Tensor

from helmflow.densities.von_mises import draw_von_mises
from helmflow.errors import InputError
from helmflow.manifolds.links import plaquette_angles, require_lattice, require_links
from helmflow.shapes import Configs


def heat_bath_sweep(x: Configs, beta: float, generator: Generator) -> Configs:
    """All U(1) links (batch, 2, L0, L1) updated once at ``S = -beta sum cos P``.

    A link is part of two plaquettes, ``theta + a`` and ``b - theta``; given the others its
    density is ``exp(beta |e^-ia + e^ib| cos(theta - arg))``. Links of one direction on every other
    line share no plaquette and move together. Raises InputError for odd extents.
    """
    shape = require_lattice((x.shape[-2], x.shape[-1]))
    require_links(x, shape)
    if any(extent % 2 for extent in shape):
        raise InputError("field.shape", "even extents for a heat bath", list(shape))
    x = x.clone()
    for mu in (0, 1):
        for parity in (0, 1):
            lines = torch.arange(parity, shape[1 - mu], 2)
            angle, concentration = _conditional(x, mu)
            axis = 2 - mu
            of_lines = concentration.index_select(axis, lines)
            fresh = angle.index_select(axis, lines) + draw_von_mises(beta * of_lines, generator)
            x[:, mu] = x[:, mu].index_copy(axis, lines, fresh)
    return x


def _conditional(x: Configs, mu: int) -> tuple[Tensor, Tensor]:
    """Mean direction and concentration (over beta) of every link of one direction."""
    angles = plaquette_angles(x)
    sign = 1.0 if mu == 0 else -1.0
    a = sign * angles - x[:, mu]
    b = sign * angles.roll(1, 2 - mu) + x[:, mu]
    along = torch.polar(torch.ones_like(a), -a) + torch.polar(torch.ones_like(b), b)
    return along.angle(), along.abs()
