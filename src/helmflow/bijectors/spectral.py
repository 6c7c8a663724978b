"""Maps of SU(2) and SU(3) matrices that commute with conjugation: only eigenvalues move."""

import math
from typing import final

import torch
from torch import Tensor, nn

from helmflow.bijectors.base import TwoWay
from helmflow.bijectors.splines import RationalQuadraticSpline
from helmflow.manifolds.special_unitary import (
    eigenangles,
    log_vandermonde,
    require_colours,
    spectral_function,
)
from helmflow.nets.mlp import Mlp
from helmflow.shapes import Configs, Values

EDGE = 1e-12
"""How close to an edge of the cell coordinates may come."""


@final
class SpectralMap(nn.Module):
    """``W -> V diag(e^(i theta')) V^dagger``: splines of the eigenangles in their cell.

    Coordinates of the cell are r = (theta_1 - theta_N)/2 pi and, for N = 3, phi = (theta_1 -
    theta_2)/(theta_1 - theta_3), both in [0, 1]: the distance from the matrix one and the position
    across. r' is a spline of r given the context (..., n_context), phi' one of phi given context
    and r'. The log-determinant is that of Haar measure,

        ln |d theta'/d theta| + ln Vd(theta') - ln Vd(theta)

    with Vd the Vandermonde factor. Source: D. Boyda et al., doi:10.1103/PhysRevD.103.074504.
    """

    def __init__(
        self,
        n_colours: int,
        n_context: int,
        *,
        n_bins: int = 8,
        width: int = 24,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_colours, self.n_context = require_colours(n_colours), n_context
        self.spline = RationalQuadraticSpline(n_bins, 0.0, 1.0, linear_tails=False)
        n_out = self.spline.n_parameters
        # a constant input stands for an absent context
        sizes = [max(n_context, 1)] if n_colours == 2 else [max(n_context, 1), n_context + 3]
        self.nets = nn.ModuleList(
            Mlp((n_in, width, width, n_out), generator=generator) for n_in in sizes
        )

    def forward(self, w: Tensor, context: Tensor, sign: int = 1) -> tuple[Tensor, Tensor]:
        """Mapped matrices (..., N, N) and log-determinants (...); of the inverse if sign is -1."""
        angles = eigenangles(w)
        r, phi = _coordinates(angles)
        spline = self.spline.forward if sign > 0 else self.spline.inverse
        r_new, log_det = spline(r, self.nets[0](self._seen(context)))
        if phi is not None:
            phi, log_slope = spline(phi, self._across(context, r_new if sign > 0 else r))
            # the element of area is r dr dphi
            log_det = log_det + log_slope + (r_new / r).log()
        images = _angles(r_new.clamp(EDGE, 1.0 - EDGE), phi)
        log_det = log_det + log_vandermonde(images) - log_vandermonde(angles)
        return spectral_function(w, angles, images), log_det

    def _seen(self, context: Tensor) -> Tensor:
        if self.n_context:
            return context
        return context.new_ones(*context.shape[:-1], 1)

    def _across(self, context: Tensor, r: Tensor) -> Tensor:
        waves = [r, torch.cos(math.pi * r), torch.cos(2.0 * math.pi * r)]
        return self.nets[1](torch.cat((context, torch.stack(waves, -1)), -1))


def _coordinates(angles: Tensor) -> tuple[Tensor, Tensor | None]:
    span = angles[..., 0] - angles[..., -1]
    r = (span / (2.0 * math.pi)).clamp(EDGE, 1.0 - EDGE)
    if angles.shape[-1] == 2:
        return r, None
    return r, ((angles[..., 0] - angles[..., 1]) / span).clamp(EDGE, 1.0 - EDGE)


def _angles(r: Tensor, phi: Tensor | None) -> Tensor:
    span = 2.0 * math.pi * r
    if phi is None:
        return torch.stack((0.5 * span, -0.5 * span), -1)
    upper = span * phi.clamp(EDGE, 1.0 - EDGE)
    first = (span + upper) / 3.0
    return torch.stack((first, first - upper, first - span), -1)


@final
class SpectralFlow(TwoWay):
    """One SU(N) matrix (batch, N, N) mapped by a `SpectralMap`, for densities of its class."""

    def __init__(
        self,
        n_colours: int,
        *,
        n_bins: int = 16,
        width: int = 32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.map = SpectralMap(n_colours, 0, n_bins=n_bins, width=width, generator=generator)

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        return self.map(x, torch.zeros(len(x), 0, dtype=torch.float64), sign)
