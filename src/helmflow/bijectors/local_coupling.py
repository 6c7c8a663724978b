"""Couplings of a crystal's sites with their neighbours: trained small, used at any size."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Generator, Tensor, nn

from helmflow.bijectors.base import Bijector, require_event
from helmflow.bijectors.bends import Bends
from helmflow.errors import InputError
from helmflow.manifolds.site_graph import SiteGraph
from helmflow.nets.mlp import Mlp
from helmflow.shapes import Configs, Values
from helmflow.streams import stream

_MAP = Bends()
_TRIANGLE = 9  # shift, log diagonal and lower triangle of a 3 x 3 matrix
_OUTPUTS = _TRIANGLE + 3 * _MAP.n_parameters


@final
class LocalCouplings(Bijector):
    """Displacements moved colour by colour, each site given its neighbours.

    For the sites i of one colour, with m_i the mean displacement of the nearest neighbours and
    R_i the frame of the site, in units of ``scale``:

        w_i = R_i^T (u_i - m_i),   h_i = {R_i^T (u_j - m_i) for the neighbours j of i}
        u_i -> m_i + R_i [A(h_i) f(w_i; h_i) + t(h_i)]

    A is lower triangular with a positive diagonal, f monotone in every component, and both come
    from one network that all sites share; every colour of every sweep has its own. Neighbours
    have other colours, so ``log_det = sum_i (ln det A + sum ln f')`` over all steps. It starts
    as the identity.

    Only differences enter: the map commutes with uniform translations, its log-determinant on
    all coordinates is that on the space of zero mean displacement, and the mean is removed at the
    end. u is (batch, 3n). ``moved_to`` gives the same map on a larger crystal.
    """

    def __init__(
        self, graph: SiteGraph, networks: Sequence[nn.Module], scale: float | Tensor
    ) -> None:
        super().__init__()
        if not networks or len(networks) % len(graph.colours):
            raise InputError(
                "networks", f"a multiple of {len(graph.colours)} colours", len(networks)
            )
        self.networks = nn.ModuleList(networks)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))
        self.register_buffer("offsets", torch.from_numpy(graph.offsets))
        self.n_nearest = graph.n_nearest
        self.n_colours, self.n_sites = len(graph.colours), len(graph.neighbours)
        for c, sites in enumerate(graph.colours):
            parts = (sites, graph.neighbours[sites], graph.frames[sites])
            for name, part in zip(("sites", "around", "frames"), parts, strict=True):
                # Not part of the weights: these belong to one size of the crystal.
                self.register_buffer(f"_{name}_{c}", torch.from_numpy(part), persistent=False)

    scale: Tensor
    offsets: Tensor

    def moved_to(self, graph: SiteGraph) -> "LocalCouplings":
        """The same weights on another crystal of the same kind, usually a larger one.

        Raises ``InputError`` if a site has other surroundings there.
        """
        same = graph.offsets.shape == self.offsets.shape
        if not same or (torch.from_numpy(graph.offsets) - self.offsets).abs().max() > 1e-3 * (
            self.offsets.norm(dim=1).min()
        ):
            raise InputError("flow", "the crystal it was trained for", "other surroundings")
        return LocalCouplings(graph, list(self.networks), self.scale)

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        """The moved displacements and the log-determinant."""
        return self._through(x, inverse=False)

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        """The original displacements and the log-determinant of going back."""
        return self._through(y, inverse=True)

    def _through(self, u: Configs, inverse: bool) -> tuple[Configs, Values]:
        require_event(u, torch.Size([3 * self.n_sites]))
        u = u.view(len(u), -1, 3)
        total = u.new_zeros(len(u))
        steps = range(len(self.networks))
        for step in reversed(steps) if inverse else steps:
            u, log_det = self._step(u, step, inverse)
            total = total + log_det
        return (u - u.mean(1, keepdim=True)).flatten(1), total

    def _step(self, u: Tensor, step: int, inverse: bool) -> tuple[Tensor, Values]:
        colour = step % self.n_colours
        sites, around, frames = (
            getattr(self, f"_{name}_{colour}") for name in ("sites", "around", "frames")
        )
        near = u[:, around]
        mean = near[:, :, : self.n_nearest].mean(2)
        h = (near - mean[:, :, None]) @ frames / self.scale
        network = self.networks[step]
        parameters = network(h.flatten(2).to(next(network.parameters()).dtype)).to(u.dtype)
        w = ((u[:, sites] - mean)[:, :, None] @ frames)[:, :, 0] / self.scale
        move = _back if inverse else _there
        w, log_slope = move(w, parameters)
        moved = mean + ((w * self.scale)[:, :, None] @ frames.mT)[:, :, 0]
        return u.index_copy(1, sites, moved), log_slope.flatten(1).sum(1)


def local_couplings(
    graph: SiteGraph,
    *,
    scale: float,
    n_sweeps: int = 2,
    hidden: Sequence[int] = (48, 48),
    dtype: torch.dtype = torch.float32,
    generator: Generator | None = None,
) -> LocalCouplings:
    """The identity, ready to be trained: ``n_sweeps`` times all colours.

    ``scale`` is a typical displacement relative to the neighbours, in the unit of length;
    ``hidden`` are the widths of the networks and ``dtype`` their precision.
    """
    generator = generator or stream(0, "local couplings")
    networks = [
        Mlp(graph.offsets.size, hidden, _OUTPUTS, dtype=dtype, generator=generator)
        for _ in range(n_sweeps * len(graph.colours))
    ]
    return LocalCouplings(graph, networks, scale)


def _split(parameters: Tensor) -> tuple[Tensor, ...]:
    """Shift, log diagonal, lower triangle (21, 31, 32), and the parameters of the map."""
    shift, diagonal, lower, rest = parameters.split((3, 3, 3, 3 * _MAP.n_parameters), -1)
    return shift, diagonal, lower, rest.unflatten(-1, (3, _MAP.n_parameters))


def _there(w: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """``A f(w) + t`` and the logs of the slopes, both (..., 3)."""
    shift, diagonal, lower, of_map = _split(parameters)
    z, log_slope = _MAP.forward(w, of_map)
    mixed = torch.stack(
        [
            torch.zeros_like(z[..., 0]),
            lower[..., 0] * z[..., 0],
            lower[..., 1] * z[..., 0] + lower[..., 2] * z[..., 1],
        ],
        -1,
    )
    return z * diagonal.exp() + mixed + shift, log_slope + diagonal


def _back(y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of ``_there``, by forward substitution."""
    shift, diagonal, lower, of_map = _split(parameters)
    y, shrink = y - shift, (-diagonal).exp()
    z0 = y[..., 0] * shrink[..., 0]
    z1 = (y[..., 1] - lower[..., 0] * z0) * shrink[..., 1]
    z2 = (y[..., 2] - lower[..., 1] * z0 - lower[..., 2] * z1) * shrink[..., 2]
    w, log_slope = _MAP.inverse(torch.stack([z0, z1, z2], -1), of_map)
    return w, log_slope - diagonal
