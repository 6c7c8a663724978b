"""Exact phi^4 values on small lattices: the row transfer matrix on Gauss nodes.

T(phi, phi') = D^1/2 prod_x exp(2 phi_x phi'_x) D^1/2 with D the weights of a row; Z = Tr T^L. The
integral over each phi_x is a Gauss rule for the weight exp(-lambda phi^4 + c phi^2), made by
Lanczos on a fine grid; it converges geometrically in the number of nodes.
"""

import itertools

import numpy as np

SITE_SHIFT = 2.0
"""c: part of the quadratic term that goes into the weight."""


def gauss_nodes(coupling, n, shift=SITE_SHIFT):
    grid = np.linspace(-6.0, 6.0, 6001)
    weight = np.exp(-coupling * grid**4 + shift * grid**2) * (grid[1] - grid[0])
    total, vectors, alpha, beta = weight.sum(), [], [], []
    v, previous, b = np.sqrt(weight / total), np.zeros_like(grid), 0.0
    for _ in range(n):
        vectors.append(v)
        w = grid * v - b * previous
        a = w @ v
        w -= a * v
        for u in vectors:
            w -= (w @ u) * u
        b = np.linalg.norm(w)
        alpha.append(a), beta.append(b)
        previous, v = v, w / b
    matrix = np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1)
    nodes, rows = np.linalg.eigh(matrix)
    return nodes, total * rows[0] ** 2


def log_z(extent, mass_squared, coupling, n=8, *, length=None, tilt=0.0, shift=SITE_SHIFT):
    """ln Z of extent x length sites, a square unless given; cost n^(3 extent).

    ``tilt`` adds tilt sum phi to the action, which makes its two wells unequal. ``shift`` as in
    `gauss_nodes`: below zero, where there is one well, fewer nodes do.
    """
    nodes, weights = gauss_nodes(coupling, n, shift)
    rows = np.array(list(itertools.product(range(n), repeat=extent)))
    phi = nodes[rows]
    local = (shift + 4.0 + mass_squared) * phi**2 - 2.0 * phi * np.roll(phi, 1, axis=1)
    log_row = np.log(weights)[rows].sum(1) - local.sum(1) - tilt * phi.sum(1)
    matrix = np.exp(0.5 * (log_row[:, None] + log_row) + 2.0 * phi @ phi.T)
    values = np.linalg.eigvalsh(matrix) / (top := float(np.abs(matrix).sum(1).max()))
    length = length or extent
    return float(np.log((values**length).sum()) + length * np.log(top))


def phi_squared(extent, mass_squared, coupling, n=8, h=1e-3):
    """<phi^2> = -d ln Z / d m^2 / V."""
    ends = [log_z(extent, mass_squared + s * h, coupling, n) for s in (-1, 1)]
    return -(ends[1] - ends[0]) / (2.0 * h * extent**2)


def phi_squared_slope(extent, mass_squared, coupling, n=8, h=0.05):
    """d <phi^2> / d lambda."""
    ends = [phi_squared(extent, mass_squared, coupling + s * h, n) for s in (-1, 1)]
    return (ends[1] - ends[0]) / (2.0 * h)


def free_energy_slope(extent, mass_squared, coupling, n=8, h=1e-2):
    """d(-ln Z) / d lambda."""
    ends = [log_z(extent, mass_squared, coupling + s * h, n) for s in (-1, 1)]
    return -(ends[1] - ends[0]) / (2.0 * h)
