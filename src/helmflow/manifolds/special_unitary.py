"""SU(2) and SU(3): Haar measure, eigenangles in one fundamental cell, functions of a matrix.

Matrices are complex (..., N, N). Eigenangles theta_1 >= ... >= theta_N have sum zero and span at
most one turn, which fixes them; the matrix one sits at zero, the other elements of the centre at
the other corners of the cell.
"""

import math

import torch
from torch import Generator, Tensor

from helmflow.errors import InputError
from helmflow.shapes import Configs

TWO_PI = 2.0 * math.pi
UNITARY = 1e-9
"""Largest entry of U U^dagger - 1 that is taken for rounding."""

POLISHES = 2


def require_colours(n_colours: int) -> int:
    """The number of colours; InputError unless it is 2 or 3."""
    if n_colours not in (2, 3):
        raise InputError("potential.n_colours", "2 or 3", n_colours)
    return n_colours


def haar_matrices(shape: tuple[int, ...], n_colours: int, generator: Generator) -> Tensor:
    """Independent matrices of SU(N), uniform in Haar measure: (*shape, N, N).

    QR of Gaussian matrices with the phases of R fixed (F. Mezzadri, arXiv:math-ph/0609050),
    divided by a root of the determinant.
    """
    size = (*shape, n_colours, n_colours)
    parts = torch.randn(2, *size, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(torch.complex(parts[0], parts[1]))
    diagonal = torch.diagonal(r, dim1=-2, dim2=-1)
    q = q * (diagonal / diagonal.abs()).unsqueeze(-2)
    phase = torch.linalg.det(q).angle() / n_colours
    return q * torch.polar(torch.ones_like(phase), -phase)[..., None, None]


def require_special_unitary(x: Configs, n_colours: int) -> None:
    """Raise InputError unless all matrices are in SU(N), to 1e-9."""
    if x.shape[-2:] != (n_colours, n_colours) or not x.is_complex():
        raise InputError("x", f"complex matrices {n_colours} x {n_colours}", tuple(x.shape))
    x = x.detach()
    one = torch.eye(n_colours, dtype=x.dtype)
    off = (x @ x.mH - one).abs().max() + (torch.linalg.det(x) - 1.0).abs().max()
    if not float(off) < UNITARY:
        raise InputError("x", "special unitary links", f"links off by {float(off):.3g}")


def trace(x: Tensor) -> Tensor:
    """Traces (...) of matrices (..., N, N)."""
    return torch.diagonal(x, dim1=-2, dim2=-1).sum(-1)


def eigenangles(x: Tensor) -> Tensor:
    """Eigenangles (..., N) of SU(N) matrices in the cell, differentiable.

    The roots of the characteristic polynomial; their derivatives by the implicit-function theorem.
    """
    t = trace(x)
    with torch.no_grad():
        roots = _quadratic(t) if x.shape[-1] == 2 else _cubic(t)
        slope = _slopes(roots)
    value = _characteristic(roots, t.unsqueeze(-1))
    angles = (roots - value / slope).angle()
    return _in_cell(angles)


def spectral_function(x: Tensor, angles: Tensor, images: Tensor) -> Tensor:
    """``sum_i e^(i images_i) P_i`` with the projectors P_i on the eigenvectors of x.

    ``angles`` (..., N) are those of x. Sums over Lagrange polynomials of x: eigenvectors are
    never formed, and nothing depends on their phases.
    """
    n = x.shape[-1]
    roots, values = (torch.polar(torch.ones_like(a), a) for a in (angles, images))
    one = torch.eye(n, dtype=x.dtype)
    # Newton's divided differences: no denominators but those of neighbouring roots
    table = [values[..., i] for i in range(n)]
    coefficients = [table[0]]
    for order in range(1, n):
        table = [
            (table[i + 1] - table[i]) / (roots[..., i + order] - roots[..., i])
            for i in range(n - order)
        ]
        coefficients.append(table[0])
    total = coefficients[-1][..., None, None] * one
    for i in reversed(range(n - 1)):
        shifted = x - roots[..., i, None, None] * one
        total = total @ shifted + coefficients[i][..., None, None] * one
    return projected(total)


def projected(x: Tensor) -> Tensor:
    """Matrices that are special unitary but for rounding, without it.

    Newton steps to the unitary matrix next to x, and the phase of the determinant taken out.
    Without it rounding, large where eigenvalues nearly coincide, would grow from layer to layer.
    """
    one = torch.eye(x.shape[-1], dtype=x.dtype)
    for _ in range(POLISHES):
        x = x @ (1.5 * one - 0.5 * (x.mH @ x))
    phase = _determinant(x).angle() / x.shape[-1]
    return x * torch.polar(torch.ones_like(phase), -phase)[..., None, None]


def log_vandermonde(angles: Tensor) -> Tensor:
    """``ln prod_(i<j) |e^(i theta_i) - e^(i theta_j)|^2``, the Haar density of eigenangles."""
    n = angles.shape[-1]
    differences = [angles[..., i] - angles[..., j] for i in range(n) for j in range(i + 1, n)]
    sines = torch.sin(0.5 * torch.stack(differences, -1)).abs().clamp_min(1e-150)
    return (2.0 * sines.log() + 2.0 * math.log(2.0)).sum(-1)


def exponential(x: Tensor) -> Tensor:
    """``exp(i X)`` of traceless Hermitian matrices (..., N, N)."""
    if x.shape[-1] == 2:
        norm = (x[..., 0, 0].real.square() + x[..., 0, 1].abs().square()).sqrt()
        one = torch.eye(2, dtype=x.dtype)
        return norm.cos()[..., None, None] * one + 1j * (
            torch.sinc(norm / math.pi)[..., None, None] * x
        )
    return torch.linalg.matrix_exp(1j * x)


def hermitian_part(x: Tensor) -> Tensor:
    """``(X - X^dagger)/(2i)`` minus its trace: a traceless Hermitian matrix."""
    m = (x - x.mH) / 2j
    one = torch.eye(x.shape[-1], dtype=x.dtype)
    return m - (trace(m) / x.shape[-1])[..., None, None] * one


def _characteristic(z: Tensor, t: Tensor) -> Tensor:
    """``z^2 - t z + 1`` or ``z^3 - t z^2 + t* z - 1`` at the roots (..., N)."""
    if z.shape[-1] == 2:
        return z * (z - t.real) + 1.0
    return ((z - t) * z + t.conj()) * z - 1.0


def _determinant(x: Tensor) -> Tensor:
    if x.shape[-1] == 2:
        return x[..., 0, 0] * x[..., 1, 1] - x[..., 0, 1] * x[..., 1, 0]
    return (torch.linalg.cross(x[..., 0, :], x[..., 1, :]) * x[..., 2, :]).sum(-1)


def _slopes(roots: Tensor) -> Tensor:
    n = roots.shape[-1]
    slope = torch.ones_like(roots)
    for shift in range(1, n):
        slope = slope * (roots - roots.roll(shift, -1))
    return slope


def _quadratic(t: Tensor) -> Tensor:
    angle = torch.acos((0.5 * t.real).clamp(-1.0, 1.0)).clamp(1e-9, math.pi - 1e-9)
    return torch.stack([torch.polar(torch.ones_like(angle), s * angle) for s in (1.0, -1.0)], -1)


def _cubic(t: Tensor) -> Tensor:
    """Cardano's roots, polished by Newton's method and brought to the unit circle."""
    p = t.conj() - t.square() / 3.0
    q = -2.0 * t**3 / 27.0 + t.abs().square() / 3.0 - 1.0
    root = (0.25 * q.square() + p**3 / 27.0).sqrt()
    both = torch.stack((-0.5 * q + root, -0.5 * q - root), -1)
    larger = both.abs().argmax(-1, keepdim=True)
    c = both.gather(-1, larger).squeeze(-1) ** (1.0 / 3.0)
    turns = torch.polar(
        torch.ones(3, dtype=torch.float64), TWO_PI / 3.0 * torch.arange(3, dtype=torch.float64)
    )
    c = c.unsqueeze(-1) * turns
    z = c - p.unsqueeze(-1) / (3.0 * c) + t.unsqueeze(-1) / 3.0
    for _ in range(POLISHES):
        z = z - _characteristic(z, t.unsqueeze(-1)) / _slopes(z)
        z = z / z.abs()
    return z


def _in_cell(angles: Tensor) -> Tensor:
    """Sorted, with the extreme one moved by a turn if they do not sum to zero."""
    ordered = angles.sort(-1, descending=True).values
    turns = (ordered.sum(-1) / TWO_PI).round().detach()
    first, last = ordered[..., 0], ordered[..., -1]
    inner = list(ordered[..., 1:-1].unbind(-1))
    moved = [
        torch.where(turns > 0, first - TWO_PI, first),
        *inner,
        torch.where(turns < 0, last + TWO_PI, last),
    ]
    return torch.stack(moved, -1).sort(-1, descending=True).values
