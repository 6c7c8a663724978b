"""Couplings of a crystal's sites with their neighbours: trained small, used at any size."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Generator, Tensor, nn

from helmflow.bijectors.base import Chain, TwoWay, require_event
from helmflow.bijectors.coupling import Coupling, Split
from helmflow.bijectors.elementwise import Bends
from helmflow.errors import InputError
from helmflow.manifolds.site_graph import SiteGraph
from helmflow.nets.mlp import Mlp
from helmflow.shapes import Configs, Values
from helmflow.streams import stream

BENDS = Bends()


@final
class TriangularMap:
    """``A f(w) + t`` of vectors w (..., 3), A lower triangular with a positive diagonal.

    Parameters (..., n_parameters): t, the logarithms of the diagonal, the lower triangle (21, 31,
    32), and those of f, which are `Bends` of every component.
    """

    n_parameters = 9 + 3 * BENDS.n_parameters

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """``A f(w) + t`` and the logarithms of the slopes, both (..., 3)."""
        shift, diagonal, lower, of_bends = self._split(parameters)
        z, log_slope = BENDS.forward(x, of_bends)
        mixed = torch.stack(
            [
                torch.zeros_like(z[..., 0]),
                lower[..., 0] * z[..., 0],
                lower[..., 1] * z[..., 0] + lower[..., 2] * z[..., 1],
            ],
            -1,
        )
        return z * diagonal.exp() + mixed + shift, log_slope + diagonal

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse, by forward substitution."""
        shift, diagonal, lower, of_bends = self._split(parameters)
        y, shrink = y - shift, (-diagonal).exp()
        z0 = y[..., 0] * shrink[..., 0]
        z1 = (y[..., 1] - lower[..., 0] * z0) * shrink[..., 1]
        z2 = (y[..., 2] - lower[..., 1] * z0 - lower[..., 2] * z1) * shrink[..., 2]
        w, log_slope = BENDS.inverse(torch.stack([z0, z1, z2], -1), of_bends)
        return w, log_slope - diagonal

    @staticmethod
    def _split(parameters: Tensor) -> tuple[Tensor, ...]:
        *affine, of_bends = parameters.split((3, 3, 3, 3 * BENDS.n_parameters), -1)
        return *affine, of_bends.unflatten(-1, (3, BENDS.n_parameters))


@final
class LocalCoupling(Coupling):
    """The sites of one colour moved, each given its neighbours; u is (batch, sites, 3)."""

    sites: Tensor
    around: Tensor
    frames: Tensor
    scale: Tensor

    def __init__(self, graph: SiteGraph, colour: int, network: nn.Module, scale: Tensor) -> None:
        super().__init__()
        self.network, self.n_nearest, self.f = network, graph.n_nearest, TriangularMap()
        sites = graph.colours[colour]
        parts = {
            "sites": torch.from_numpy(sites),
            "around": torch.from_numpy(graph.neighbours[sites]),
            "frames": torch.from_numpy(graph.frames[sites]),
            "scale": scale,
        }
        for name, part in parts.items():
            # not part of the weights: these belong to one size of the crystal
            self.register_buffer(name, part, persistent=False)

    def split(self, x: Configs) -> Split:
        """Displacements from the mean of the neighbours, in the frame of every site."""
        near = x[:, self.around]
        mean = near[:, :, : self.n_nearest].mean(2)
        h = (near - mean[:, :, None]) @ self.frames / self.scale
        dtype = next(self.network.parameters()).dtype
        parameters = self.network(h.flatten(2).to(dtype)).to(x.dtype)
        w = ((x[:, self.sites] - mean)[:, :, None] @ self.frames)[:, :, 0] / self.scale

        def join(w: Tensor) -> Configs:
            moved = mean + ((w * self.scale)[:, :, None] @ self.frames.mT)[:, :, 0]
            return x.index_copy(1, self.sites, moved)

        return Split(w, parameters, join)


@final
class LocalCouplings(TwoWay):
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

    scale: Tensor
    offsets: Tensor

    def __init__(
        self, graph: SiteGraph, networks: Sequence[nn.Module], scale: float | Tensor
    ) -> None:
        super().__init__()
        n_colours = len(graph.colours)
        if not networks or len(networks) % n_colours:
            raise InputError("networks", f"a multiple of {n_colours} colours", len(networks))
        self.n_sites = len(graph.neighbours)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64))
        self.register_buffer("offsets", torch.from_numpy(graph.offsets))
        self.sweeps = Chain(
            [
                LocalCoupling(graph, step % n_colours, network, self.scale)
                for step, network in enumerate(networks)
            ]
        )

    @property
    def networks(self) -> list[nn.Module]:
        """Those of all steps, in order."""
        return [step.network for step in self.sweeps.bijectors]

    def moved_to(self, graph: SiteGraph) -> "LocalCouplings":
        """The same weights on another crystal of the same kind, usually a larger one.

        Raises ``InputError`` if a site has other surroundings there.
        """
        require_same_surroundings(torch.from_numpy(graph.offsets), self.offsets)
        return LocalCouplings(graph, self.networks, self.scale)

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        require_event(x, torch.Size([3 * self.n_sites]))
        u, log_det = self.sweeps.directed(x.view(len(x), self.n_sites, 3), sign)
        return (u - u.mean(1, keepdim=True)).flatten(1), log_det


def require_same_surroundings(offsets: Tensor, trained: Tensor) -> None:
    """Raise InputError unless neighbours (k, 3) are where a flow was trained to have them."""
    same = offsets.shape == trained.shape
    if not same or (offsets - trained).abs().max() > 1e-3 * trained.norm(dim=1).min():
        raise InputError("flow", "the crystal it was trained for", "other surroundings")


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
    sizes = (graph.offsets.size, *hidden, TriangularMap.n_parameters)
    networks = [
        Mlp(sizes, dtype=dtype, generator=generator) for _ in range(n_sweeps * len(graph.colours))
    ]
    return LocalCouplings(graph, networks, scale)
