"""Energies of angles: mixtures, cosines, rings of rotors, a planar arm, a checkerboard."""

import math
from abc import abstractmethod

import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values

TWO_PI = 2.0 * math.pi
COINCIDENT = 1e-9
"""Distance below which two centres are one."""


class DirectionMixture(Energy):
    """``exp(-U) = sum_k w_k exp(kappa_k s(x, c_k))`` with a similarity s of points and centres.

    ``centres`` (K, n); ``concentration`` kappa > 0 and ``weights`` w > 0, one number for all or
    one per centre; by default weights are 1/K. Raises InputError for other numbers and for
    centres that coincide.
    """

    centres: Tensor
    concentration: Tensor
    log_weights: Tensor

    def __init__(
        self,
        centres: list[list[float]],
        concentration: float | list[float] = 1.0,
        weights: list[float] | None = None,
    ) -> None:
        super().__init__()
        points, kappa, log_weights = mixture_arrays(centres, concentration, weights)
        points = self._points(points)
        apart = self._distances(points) + torch.eye(len(points), dtype=points.dtype)
        if float(apart.min()) < COINCIDENT:
            raise InputError("potential.centres", "different centres", "two that coincide")
        self.register_buffer("centres", points)
        self.register_buffer("concentration", kappa)
        self.register_buffer("log_weights", log_weights)

    def forward(self, x: Configs) -> Values:
        """U of each row of coordinates (batch, n)."""
        require_columns(x, self.centres.shape[1])
        return -torch.logsumexp(self.log_weights + self.concentration * self._similarity(x), -1)

    def _points(self, centres: Tensor) -> Tensor:
        """The centres as points of the manifold; raises InputError for others."""
        return centres

    @abstractmethod
    def _distances(self, points: Tensor) -> Tensor:
        """How far apart centres are, (K, K)."""

    @abstractmethod
    def _similarity(self, x: Configs) -> Tensor:
        """s (batch, K), largest at the centres."""


class TorusMixture(DirectionMixture):
    """``exp(-U) = sum_k w_k exp(kappa_k sum_i cos(x_i - c_ki))``: products of von Mises densities.

    ``centres`` (K, D) in radians, within one turn of zero; the rest as for `DirectionMixture`.
    """

    letter = "T"

    @property
    def dim(self) -> int:
        """Number of angles."""
        return self.centres.shape[1]

    def _points(self, centres: Tensor) -> Tensor:
        return require_radians("potential.centres", centres)

    def _distances(self, points: Tensor) -> Tensor:
        turns = (points[:, None] - points).remainder(TWO_PI)
        return torch.minimum(turns, TWO_PI - turns).norm(dim=-1)

    def _similarity(self, x: Configs) -> Tensor:
        return torch.cos(x.unsqueeze(1) - self.centres).sum(-1)


class TorusCosines(Energy):
    """``U = -sum_k a_k cos(n_k . x - b_k)`` with rows of whole numbers n_k.

    ``modes`` (K, D), ``amplitudes`` (K,), ``phases`` (K,) in radians, within one turn of zero.
    """

    letter = "T"

    modes: Tensor
    amplitudes: Tensor
    phases: Tensor

    def __init__(
        self, modes: list[list[int]], amplitudes: list[float], phases: list[float]
    ) -> None:
        super().__init__()
        if not modes or len({len(row) for row in modes}) != 1 or not modes[0]:
            raise InputError("potential.modes", "rows of equal length", modes)
        for name, values in (("amplitudes", amplitudes), ("phases", phases)):
            if len(values) != len(modes):
                raise InputError(f"potential.{name}", f"{len(modes)} numbers", len(values))
        self.register_buffer("modes", torch.tensor(modes, dtype=torch.float64))
        self.register_buffer("amplitudes", torch.tensor(amplitudes, dtype=torch.float64))
        shifts = torch.tensor(phases, dtype=torch.float64)
        self.register_buffer("phases", require_radians("potential.phases", shifts))
        self.dim = len(modes[0])

    def forward(self, x: Configs) -> Values:
        """U of each row of angles (batch, D)."""
        require_columns(x, self.dim)
        return -(torch.cos(x @ self.modes.T - self.phases) @ self.amplitudes)


class XYRing(Energy):
    """Planar rotors on a ring, ``U = -coupling sum_i cos(x_i - x_(i+1))``, x_(n+1) = x_1."""

    letter = "T"

    def __init__(self, n: int, coupling: float) -> None:
        super().__init__()
        if n < 2:
            raise InputError("potential.n", "two rotors or more", n)
        self.dim = n
        self.coupling = coupling

    def forward(self, x: Configs) -> Values:
        """U of each row of angles (batch, n)."""
        require_columns(x, self.dim)
        return -self.coupling * torch.cos(x - x.roll(-1, -1)).sum(-1)


class PlanarArm(Energy):
    """An arm of straight links in the plane that reaches for places.

    ``exp(-U) = sum_k exp(-|e(x) - c_k|^2 / (2 width^2))`` with the tip
    ``e = sum_i l_i (cos s_i, sin s_i)`` and link i at the angle ``s_i = x_1 + ... + x_i``.
    ``links`` (D,) lengths, ``places`` (K, 2) in the same unit.
    """

    letter = "T"

    links: Tensor
    places: Tensor

    def __init__(self, links: list[float], places: list[list[float]], width: float) -> None:
        super().__init__()
        if not links or min(links) <= 0:
            raise InputError("potential.links", "positive lengths", links)
        if not places or {len(place) for place in places} != {2}:
            raise InputError("potential.places", "points of the plane", places)
        if not width > 0:
            raise InputError("potential.width", "a positive length", width)
        self.register_buffer("links", torch.tensor(links, dtype=torch.float64))
        self.register_buffer("places", torch.tensor(places, dtype=torch.float64))
        self.width = width
        self.dim = len(links)

    def forward(self, x: Configs) -> Values:
        """U of each row of joint angles (batch, D)."""
        require_columns(x, self.dim)
        absolute = x.cumsum(-1)
        tip = torch.stack((absolute.cos() @ self.links, absolute.sin() @ self.links), -1)
        square = (tip.unsqueeze(1) - self.places).square().sum(-1)
        return -torch.logsumexp(-0.5 * square / self.width**2, -1)


class Checkerboard(Energy):
    """U = 0 on the white and ``height`` on the black squares of an n x n board on the torus.

    ``n`` is even, so that the board closes; the gradient is zero almost everywhere.
    """

    letter = "T"

    def __init__(self, n: int, height: float) -> None:
        super().__init__()
        if n < 2 or n % 2:
            raise InputError("potential.n", "an even number of squares", n)
        self.dim = 2
        self.n = n
        self.height = height

    def forward(self, x: Configs) -> Values:
        """U of each row of two angles."""
        require_columns(x, 2)
        squares = torch.floor(x * (self.n / TWO_PI)).sum(-1)
        return self.height * squares.remainder(2.0) + 0.0 * x.sum(-1)


def mixture_arrays(
    centres: list[list[float]],
    concentration: float | list[float],
    weights: list[float] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres (K, n), concentrations (K,) and logarithms of weights (K,), checked."""
    if not centres or len({len(row) for row in centres}) != 1 or not centres[0]:
        raise InputError("potential.centres", "rows of equal length", centres)
    n = len(centres)
    kappa = concentration if isinstance(concentration, list) else [concentration] * n
    shares = [1.0 / n] * n if weights is None else weights
    for name, values in (("concentration", kappa), ("weights", shares)):
        if len(values) != n or not min(values) > 0 or not max(values) < math.inf:
            raise InputError(f"potential.{name}", f"{n} positive numbers", values)
    arrays = [torch.tensor(values, dtype=torch.float64) for values in (centres, kappa, shares)]
    if not bool(torch.isfinite(arrays[0]).all()):
        raise InputError("potential.centres", "finite numbers", centres)
    return arrays[0], arrays[1], arrays[2].log()


def require_radians(field: str, angles: Tensor) -> Tensor:
    """The angles; raises InputError for one beyond a whole turn, which is probably in degrees."""
    if bool((angles.abs() > TWO_PI).any()):
        raise InputError(field, "radians from -2 pi to 2 pi", angles.abs().max().item())
    return angles


def require_columns(x: Tensor, n: int) -> None:
    """Raise InputError unless x is (batch, n)."""
    if x.ndim != 2 or x.shape[1] != n:
        raise InputError("x", f"shape (batch, {n})", tuple(x.shape))
