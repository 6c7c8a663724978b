"""Link variables of a periodic square lattice: plaquettes, charges, what links may be.

U(1) links are angles theta (batch, 2, L0, L1) in radians; theta[:, mu, n] leads from n to n + mu.
A gauge transformation alpha changes theta_mu(n) by alpha(n) - alpha(n + mu).
"""

import math

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

TWO_PI = 2.0 * math.pi
SMALLEST_EXTENT = 3
"""Below, a plaquette would be its own neighbour."""


def plaquette_angles(theta: Configs) -> Tensor:
    """``P(n) = theta_0(n) + theta_1(n + 0) - theta_0(n + 1) - theta_1(n)``, (batch, L0, L1)."""
    first, second = theta.unbind(1)
    return first + second.roll(-1, 1) - first.roll(-1, 2) - second


def wrapped(angles: Tensor) -> Tensor:
    """Angles moved by whole turns to [-pi, pi)."""
    return angles - TWO_PI * ((angles + math.pi) / TWO_PI).floor()


def topological_charge(theta: Configs) -> Values:
    """``Q = sum_n wrapped(P(n)) / (2 pi)`` of links (batch, 2, L0, L1): whole numbers (batch,)."""
    return wrapped(plaquette_angles(theta)).sum((1, 2)) / TWO_PI


def curl(psi: Tensor) -> Tensor:
    """Changes of the links (batch, 2, L0, L1) that a field psi on the plaquettes makes.

    ``dtheta_0(n) = psi(n) - psi(n - 1)``, ``dtheta_1(n) = psi(n - 0) - psi(n)``: plaquettes change
    by ``4 psi(n)`` minus the four neighbours, and the sum of all plaquettes stays as it is.
    """
    return torch.stack((psi - psi.roll(1, 2), psi.roll(1, 1) - psi), 1)


def require_lattice(shape: tuple[int, int], multiple: int = 1) -> tuple[int, int]:
    """The extents; InputError unless they are at least 3, and multiples of ``multiple``."""
    for extent in shape:
        if extent < SMALLEST_EXTENT or extent % multiple:
            wanted = f"extents of at least {SMALLEST_EXTENT}"
            if multiple > 1:
                wanted += f", multiples of {multiple}"
            raise InputError("field.shape", wanted, list(shape))
    return (shape[0], shape[1])


def require_links(x: Configs, shape: tuple[int, int]) -> None:
    """Raise InputError unless x is (batch, 2, L0, L1) of finite angles."""
    if x.ndim != 4 or tuple(x.shape[1:]) != (2, *shape):
        raise InputError("x", f"links (batch, 2, {shape[0]}, {shape[1]})", tuple(x.shape))
    if not bool(torch.isfinite(x.detach()).all()):
        raise InputError("x", "finite angles", "NaN or infinity")
