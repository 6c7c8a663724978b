"""Exact values of two-dimensional gauge theories on a periodic lattice, by character sums.

With the plaquette action exp(-S) = prod_P f(P) and f = sum_r c_r chi_r over irreducible
representations, ``Z = sum_r (c_r / d_r)^V`` on a torus of V plaquettes, links integrated with the
normalised Haar measure. Source: A. A. Migdal, Sov. Phys. JETP 42 (1975) 413; D. J. Gross, E.
Witten, doi:10.1103/PhysRevD.21.446.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ive

from helmflow.errors import InputError

Array = np.ndarray
MODES = 80
"""Representations of U(1) and SU(2) in the sums; c_r/c_0 falls faster than exponentially."""

QUADRATURE = 400
STEP = 1e-3
"""Of the derivative by the coupling."""

CENTRED = ((-2.0, -1.0, 1.0, 2.0), (1.0, -8.0, 8.0, -1.0))
FORWARD = ((0.0, 1.0, 2.0, 3.0, 4.0), (-25.0, 48.0, -36.0, 16.0, -3.0))
"""Places and twelvefold weights; sums of characters know no coupling below zero."""


@dataclass(frozen=True)
class ExactGauge:
    """What is known of a theory: ln Z (Haar measure), mean plaquette, ESS of Haar proposals.

    ``plaquette`` is ``<Re tr P>/N``, for U(1) ``<cos P>``; ``charge_squared`` is ``<Q^2>``, None
    for groups without a topological charge.
    """

    log_z: float
    plaquette: float
    haar_ess: float
    charge_squared: float | None = None


def exact_gauge(n_colours: int, beta: float, volume: int) -> ExactGauge:
    """Exact values for U(1) (``n_colours`` = 1), SU(2) or SU(3) at ``S = -beta/N sum Re tr P``.

    Raises InputError for other groups.
    """
    characters = {1: _u1, 2: _su2, 3: _su3}.get(n_colours)
    if characters is None:
        raise InputError("n_colours", "1, 2 or 3", n_colours)

    def log_z(coupling: float) -> float:
        return 0.0 if coupling == 0.0 else _log_sum(characters(coupling), volume)

    shifts, stencil = CENTRED if beta >= 2.0 * STEP else FORWARD
    values = np.array([log_z(beta + shift * STEP) for shift in shifts])
    # symmetry makes the slope exactly zero without an action
    slope = float(np.dot(stencil, values)) / (12.0 * STEP) if beta else 0.0
    charge = charge_squared(beta, volume) if n_colours == 1 else None
    value = log_z(beta)
    haar_ess = math.exp(2.0 * value - log_z(2.0 * beta))
    return ExactGauge(value, slope / volume, haar_ess, charge)


def wilson_loop(beta: float, area: int, volume: int) -> float:
    """``<cos of the flux through A plaquettes>`` of U(1): sum_n I_n^(V-A) I_(n+1)^A / Z."""
    bessel = ive(np.abs(np.arange(-MODES, MODES + 2)), beta)
    here, above = bessel[:-1], bessel[1:]
    top = bessel.max()
    weight = (here / top) ** (volume - area) * (above / top) ** area
    return float(weight.sum() / ((here / top) ** volume).sum())


def charge_squared(beta: float, volume: int) -> float:
    """``<Q^2>`` of U(1), by the second derivative of Z(theta) at theta = 0.

    ``Z(theta) = sum_n f(n + theta/2 pi)^V`` with ``f(nu) = (1/2 pi) int cos(nu t) exp(beta cos
    t) dt``.
    """
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE)
    t = math.pi * nodes
    measure = 0.5 * weights * np.exp(beta * (np.cos(t) - 1.0))
    n = np.arange(-MODES // 2, MODES // 2 + 1)[:, None]
    f = np.cos(n * t) @ measure
    first = -(np.sin(n * t) * t) @ measure
    second = -(np.cos(n * t) * t**2) @ measure
    f, first, second = (value / f.max() for value in (f, first, second))
    curvature = volume * f ** (volume - 1) * second
    curvature += volume * (volume - 1) * f ** (volume - 2) * first**2
    return float(-curvature.sum() / (f**volume).sum() / (4.0 * math.pi**2))


def charge_distribution(beta: float, volume: int, largest: int) -> Array:
    """``P(Q)`` of U(1) for Q = 0 ... ``largest``, the Fourier transform of Z(theta)."""
    nodes, weights = np.polynomial.legendre.leggauss(QUADRATURE)
    t = math.pi * nodes
    measure = 0.5 * weights * np.exp(beta * (np.cos(t) - 1.0))
    nu = np.linspace(-0.5 * MODES, 0.5 * MODES, 64 * MODES + 1)
    f = np.cos(nu[:, None] * t) @ measure
    charges = np.arange(volume + 1)
    probability = np.cos(2.0 * math.pi * charges[:, None] * nu) @ (f / f.max()) ** volume
    total = probability[0] + 2.0 * probability[1 : max(largest, 20) + 1].sum()
    return probability[: largest + 1] / total


def single_link(n_colours: int, beta: float, c: tuple[float, ...]) -> tuple[float, Array]:
    """ln Z and ``<Re tr U^n>/N``, n = 1 ... len(c), of ``S = -(beta/N) Re tr sum_n c_n U^n``.

    SU(2) or SU(3), by the trapezoidal rule on the eigenangles, which converges spectrally.
    """
    angles, haar = eigenangle_grid(n_colours)
    moments = np.array([np.cos(k * angles).mean(-1) for k in range(1, len(c) + 1)])
    log_p = beta * np.asarray(c) @ moments
    weight = haar * np.exp(log_p - log_p.max())
    value = math.log(float(weight.sum())) + float(log_p.max())
    return value, moments @ weight / weight.sum()


def eigenangle_grid(n_colours: int, n: int = 400) -> tuple[Array, Array]:
    """Eigenangles (points, N) of SU(2) or SU(3) on a grid and the Haar weight of each point."""
    axis = 2.0 * math.pi * np.arange(n) / n
    if n_colours == 2:
        angles = np.stack((axis, -axis), -1)
    else:
        a, b = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
        angles = np.stack((a, b, -a - b), -1)
    vandermonde = np.ones(len(angles))
    for i in range(n_colours):
        for j in range(i):
            vandermonde *= 2.0 - 2.0 * np.cos(angles[:, i] - angles[:, j])
    return angles, vandermonde / (math.factorial(n_colours) * n ** (n_colours - 1))


def _u1(beta: float) -> tuple[Array, float]:
    return ive(np.abs(np.arange(-MODES, MODES + 1)), beta), beta


def _su2(beta: float) -> tuple[Array, float]:
    return 2.0 * ive(np.arange(1, MODES + 1), beta) / beta, beta


def _su3(beta: float) -> tuple[Array, float]:
    """c_r/d_r from ``c_(p,q) = sum_n det I_(l_i - i + j + n)(beta/3)``, l = (p + q, q, 0)."""
    largest, shifts = 14, np.arange(-24, 25)
    i, j = np.meshgrid(np.arange(3), np.arange(3), indexing="ij")
    ratios = []
    for p in range(largest):
        for q in range(largest):
            rows = np.array([p + q, q, 0])[i] - i + j
            order = np.abs(rows + shifts[:, None, None])
            c = float(np.linalg.det(ive(order, beta / 3.0)).sum())
            ratios.append(c / (0.5 * (p + 1) * (q + 1) * (p + q + 2)))
    return np.array(ratios), beta


def _log_sum(characters: tuple[Array, float], volume: int) -> float:
    ratios, scale = characters
    top = float(ratios.max())
    total = float(np.power(np.maximum(ratios, 0.0) / top, volume).sum())
    return volume * (math.log(top) + scale) + math.log(total)
