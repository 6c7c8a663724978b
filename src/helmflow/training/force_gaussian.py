"""Gaussians of stiff coordinates from forces: the moments that samples alone give too slowly."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from helmflow.bijectors.affine import DenseAffine
from helmflow.bijectors.base import Bijector, Chain
from helmflow.bijectors.conjugated import Part
from helmflow.bijectors.given_torsions import (
    ORDERS,
    Places,
    ShiftedByTorsions,
    TurnedTorsions,
    torsion_features,
)
from helmflow.bijectors.splines import CircularSpline
from helmflow.generalised_work import ReducedPotential
from helmflow.normal_equations import least_squares
from helmflow.shapes import Configs
from helmflow.training.map_fit import optimal_transport

N_BINS, GRID = 24, 1440
"""Bins of the spline that turns a torsion, and points on which its density is summed."""

DEEPEST = 12.0
"""Potentials of mean force (kT) above their minimum count as no more than this."""


@dataclass(frozen=True)
class ForceGaussian:
    """A Gaussian of stiff coordinates s whose mean follows soft torsions phi.

    mean (n,) + features(phi) @ ``turning`` (features, n), and ``covariance`` (n, n).
    ``soft_potential`` (features,): the potential of mean force of the torsions, each on its own,
    as features(phi) @ soft_potential.
    """

    mean: Tensor
    turning: Tensor
    covariance: Tensor
    soft_potential: Tensor


def gradients_in(
    coordinates: Bijector, x: Configs, u: ReducedPotential
) -> tuple[Configs, Configs] | None:
    """q = coordinates(x) and the gradient by q of u(x(q)) - log|det dx/dq|.

    None where u has no gradient. The first moment of the gradient under the state is zero, and
    its covariance with q the identity.
    """
    q = coordinates.forward(x)[0].detach().requires_grad_()
    y, log_det = coordinates.inverse(q)
    value = u(y)
    if not value.requires_grad:
        return None
    (value - log_det).sum().backward()
    gradient = q.grad
    return None if gradient is None else (q.detach(), gradient)


def force_gaussian(
    q: Configs, gradient: Configs, stiff: Tensor, soft: Tensor
) -> ForceGaussian | None:
    """The Gaussian whose forces fit best: g = P (s - mean - features(phi) @ turning).

    Least squares of the gradients on the coordinates. As Cov(q, g) is the identity, P is the
    inverse of the covariance in the limit of many samples; unlike that of the samples it has no
    noise at all where the energy is quadratic, however few the samples are. None for too few
    samples or where P is not positive.
    """
    s, g = q[:, stiff], gradient[:, stiff]
    features = torsion_features(q[:, soft], ORDERS)
    keep = torch.isfinite(g).all(1)
    s, g, features = s[keep], g[keep], features[keep]
    if len(s) < 2 * (s.shape[1] + features.shape[1]):
        return None
    centred, wave, force = (t - t.mean(0) for t in (s, features, g))
    scale = s.std(0)
    columns = torch.cat([centred / scale, wave], dim=1)
    slopes = _fitted(columns, force)[: len(scale)] / scale[:, None]
    precision = 0.5 * (slopes + slopes.T)
    values, vectors = torch.linalg.eigh(precision * scale * scale[:, None])
    if values[0] <= 0.0:
        return None
    covariance = (vectors / values) @ vectors.T * scale * scale[:, None]
    rest = force - centred @ precision
    turning = -_fitted(wave, rest) @ covariance
    mean = s.mean(0) - g.mean(0) @ covariance - features.mean(0) @ turning
    around = (s - mean - features @ turning) / scale
    potential = _mean_force(q[keep][:, soft], gradient[keep][:, soft], around)
    return ForceGaussian(mean, turning, covariance, potential)


def _mean_force(phi: Tensor, gradient: Tensor, around: Tensor) -> Tensor:
    """Weights of the features in the potentials of mean force of all torsions.

    What the gradient owes to displacements of the stiff coordinates, which have mean zero at
    every phi, is fitted beside it.
    """
    k = torch.arange(1, ORDERS + 1, dtype=phi.dtype)
    rows = []
    for j in range(phi.shape[1]):
        angle = phi[:, j, None] * k
        waves = torch.cat([-k * angle.sin(), k * angle.cos()], dim=1)
        slopes = _fitted(torch.cat([waves, around], 1), gradient[:, j])
        rows.append(slopes[: 2 * ORDERS].reshape(2, ORDERS))
    # features are ordered cos of all angles and orders, then sin
    return torch.stack(rows, 1).flatten() if rows else phi.new_zeros(0)


def _fitted(columns: Tensor, target: Tensor) -> Tensor:
    return torch.from_numpy(least_squares(columns.numpy(), target.numpy()).coefficients)


def force_map(
    a: ForceGaussian,
    b: ForceGaussian,
    stiff: Tensor,
    soft: Tensor,
    centres: Tensor | None = None,
) -> Bijector:
    """The map of coordinates that carries one Gaussian to the other at every soft torsion.

    With ``centres`` (one per soft torsion) the torsions are turned as well, each so that its
    density exp(-potential of mean force) of a becomes that of b.
    """
    matrix = optimal_transport(a.covariance, b.covariance)
    maps: list[Bijector] = [
        ShiftedByTorsions(stiff, soft, -a.turning),
        Part(DenseAffine(matrix, b.mean - matrix @ a.mean), stiff),
    ]
    if centres is not None:
        spline = CircularSpline(N_BINS)
        turned = _turning_parameters(a.soft_potential, b.soft_potential, centres, spline)
        maps.append(TurnedTorsions(Places.around(soft, centres), spline, turned))
    return Chain([*maps, ShiftedByTorsions(stiff, soft, b.turning)])


def _turning_parameters(a: Tensor, b: Tensor, centres: Tensor, spline: CircularSpline) -> Tensor:
    """Splines (torsions, parameters) through y(x) with equal parts of both densities below."""
    edge = torch.linspace(0.0, 2.0 * math.pi, GRID + 1, dtype=torch.float64)
    angles = edge[:, None] + centres - math.pi
    rows = []
    for j in range(len(centres)):
        features = torsion_features(angles[:, j, None], ORDERS)
        densities, below = [], []
        for potential in (a, b):
            waves = potential.reshape(2, len(centres), ORDERS)[:, j].flatten()
            u = features @ waves
            density = (u.min() - u).clamp_min(-DEEPEST).exp()
            area = torch.cumulative_trapezoid(density, edge)
            densities.append((density / area[-1]).numpy())
            below.append(torch.cat([area.new_zeros(1), area / area[-1]]).numpy())
        x = edge[:: GRID // spline.n_bins].numpy()
        share = np.interp(x, edge.numpy(), below[0])
        y = np.interp(share, below[1], edge.numpy())
        y[0], y[-1] = 0.0, 2.0 * math.pi
        slopes = np.interp(x, edge.numpy(), densities[0]) / np.interp(
            y, edge.numpy(), densities[1]
        )
        rows.append(
            spline.parameters_of(torch.from_numpy(np.diff(y)), torch.from_numpy(slopes[:-1]))
        )
    return torch.stack(rows)
