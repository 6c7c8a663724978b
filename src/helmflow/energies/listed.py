"""Short-ranged potentials of crystals, evaluated on a list of neighbours.

The list is made once, at the reference, a ``skin`` longer than the range of the potential. No
pair outside it can come within range as long as no atom is displaced by more than half the skin,
so exactly those configurations use it; any other gets a new list.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from typing import Literal, dataclass_transform

import numpy as np
import torch
from torch import Tensor

from helmflow.energies.base import ParticleEnergy
from helmflow.energies.neighbours import all_images, check_separated, nearest_images
from helmflow.errors import InputError
from helmflow.kernels.pairs import Energies, PairList, Traces, select_pairs
from helmflow.manifolds.periodic import PeriodicCell
from helmflow.shapes import Particles, Values

Images = Literal["all", "nearest"]

# Further out, in cells, double precision does not resolve a position within the cell.
_FARTHEST = 1e8

MOST_PAIRS = 2e7
"""Pairs beyond which the list would not fit into the memory of a workstation."""


@dataclass_transform(kw_only_default=True, eq_default=False)
@dataclass(kw_only=True, eq=False, repr=False)
class ListedEnergy(ParticleEnergy):
    """A potential of finite ``range`` in a crystal; a subclass names its parameters as fields.

    ``images="all"`` is the infinite periodic crystal. ``images="nearest"`` counts every pair once
    at its nearest image, which differs when the range exceeds half a cell; some published toy
    systems are defined that way. Leave it out where both are the same.

    Args:
        reference: sites (n, 3).
        cell_matrix: periodic cell (3, 3), rows are its vectors.
        images: which periodic images count.
        skin: how much further than the range neighbours are listed.

    Raises:
        InputError: the choice of images matters and was not made, nearest images are requested in
            a slanted cell, or two sites are closer than ``closest``.
    """

    reference: Tensor = field(kw_only=False)
    cell_matrix: InitVar[Tensor] = field(kw_only=False)
    images: Images | None = None
    skin: float | None = None

    # Subtracted from every pair in range; not a parameter.
    offset = 0.0

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True, eq=False, repr=False)(cls)

    def __post_init__(self, cell_matrix: Tensor) -> None:
        self.check_parameters()
        # What the dataclass has set becomes a buffer.
        super().__init__(vars(self).pop("reference"), PeriodicCell(cell_matrix))
        self.farthest = _FARTHEST * float(self.cell.heights.max())
        self.nearest = self._is_nearest()
        skin = self.usual_skin if self.skin is None else self.skin
        if not skin >= 0:
            raise InputError("potential.skin", "a length, zero or positive", skin)
        reach = 4.0 / 3.0 * math.pi * (self.range + (0.0 if self.nearest else skin)) ** 3
        neighbours = reach * self.n_particles / self.cell.volume
        if not self.nearest and neighbours * self.n_particles > MOST_PAIRS:
            raise InputError(
                "potential",
                f"a range and skin with at most {MOST_PAIRS:.0e} pairs in all",
                f"{neighbours:.0f} neighbours of each of {self.n_particles} particles",
            )
        check_separated(self.reference, self.cell, self.closest)
        if self.nearest:
            self.skin = self.covered = math.inf
            box = self.cell.matrix.diagonal().numpy().copy()
            self.pairs = nearest_images(self.reference)._replace(box=box)
        else:
            self.skin, self.covered = skin, skin / 2
            self.pairs = self._list(self.reference, self.range + skin)

    @abstractmethod
    def check_parameters(self) -> None:
        """Raise ``InputError`` where the parameters make no potential."""

    def _require(self, condition: bool, name: str, expected: str) -> None:
        if not condition:
            raise InputError(f"potential.{name}", expected, getattr(self, name))

    def _require_positive(self, *names: str) -> None:
        for name in names:
            self._require(0.0 < getattr(self, name) < math.inf, name, "a positive number")

    @property
    @abstractmethod
    def range(self) -> float:
        """Distance from which on atoms do not interact."""

    @property
    @abstractmethod
    def usual_skin(self) -> float:
        """The skin used unless one is given."""

    @property
    @abstractmethod
    def closest(self) -> float:
        """Distance below which two sites of a structure count as a mistake."""

    def _is_nearest(self) -> bool:
        images = self.images
        shortest = float(self.cell.heights.min())
        if images is None and self.range > shortest / 2:
            expected = f'"all" or "nearest": the range {self.range:.6g} exceeds half the cell'
            raise InputError("potential.images", expected, f"{shortest / 2:.6g}")
        if images not in (None, "all", "nearest"):
            raise InputError("potential.images", '"all" or "nearest"', repr(images))
        if images == "nearest" and not self.cell.is_orthorhombic:
            raise InputError("potential.images", '"all" in a cell that is slanted', repr(images))
        return images == "nearest"

    @abstractmethod
    def _kernel(self, name: Literal["energies", "traces"]) -> tuple[Callable[..., None], tuple]:
        """A compiled kernel and its parameters; imports numba on first use."""

    @abstractmethod
    def _from_vectors(self, d: Tensor, start: Tensor, end: Tensor) -> Values:
        """Energies (batch,) from pair vectors ``d`` (batch, pairs, 3) between those atoms."""

    def forward(self, x: Particles) -> Values:
        """Energies (batch,) of any configurations (batch, n, 3), differentiable twice."""
        u = self.displacements(x)
        differentiate = torch.is_grad_enabled() and u.requires_grad
        if not differentiate and u.device.type == "cpu" and u.dtype == torch.float64:
            return self.displaced(u, gradient=False)[0]
        still = u.detach()
        extent = still.square().sum(-1).amax(-1).double().cpu().numpy()
        energy = self._differentiable(u, self._within(extent))
        for b in self._outside(extent):
            pairs = self._own_pairs(still[b].double().cpu())
            if pairs is None:
                value = (u[b] * torch.nan).sum().reshape(1)
            else:
                value = self._differentiable((u[b] - still[b]).unsqueeze(0), pairs)
            energy = torch.cat([energy[:b], value, energy[b + 1 :]])
        return energy

    def displaced(self, u: Particles, *, gradient: bool = True) -> tuple[Values, Particles | None]:
        """Energies (batch,) and gradients +dU/du (batch, n, 3) at ``reference + u``.

        Exact for any displacements; NaN for a row with a coordinate that is not finite, or so
        far out that double precision does not resolve its place in the cell.
        """
        kernel, parameters = self._kernel("energies")

        def evaluate(
            rows: np.ndarray,
            pairs: PairList,
            extent: np.ndarray,
            energy: np.ndarray,
            slope: np.ndarray,
        ) -> None:
            kernel(rows, pairs, parameters, Energies(energy, slope, extent))

        rows = self._rows(u)
        energy = np.empty(len(rows))
        slope = np.empty_like(rows) if gradient else np.empty((len(rows), 0))
        self._on_lists(evaluate, rows, energy, slope)
        slopes = torch.from_numpy(slope).reshape(u.shape).to(u) if gradient else None
        return torch.from_numpy(energy).to(u), slopes

    def hessian_trace(self, u: Particles, covariance: Tensor) -> Values:
        """tr(C H) (batch,) with H the Hessian of U at ``reference + u`` and C (3n, 3n).

        C must be symmetric. Units: energy when C is a covariance of displacements.
        """
        kernel, parameters = self._kernel("traces")
        size = 3 * self.n_particles
        if covariance.shape != (size, size):
            raise InputError("covariance", f"shape ({size}, {size})", tuple(covariance.shape))
        matrix = covariance.detach().to("cpu", torch.float64).contiguous().numpy()

        def evaluate(
            rows: np.ndarray, pairs: PairList, extent: np.ndarray, trace: np.ndarray
        ) -> None:
            kernel(rows, pairs, parameters, matrix, Traces(trace, extent))

        rows = self._rows(u)
        trace = np.empty(len(rows))
        self._on_lists(evaluate, rows, trace)
        return torch.from_numpy(trace).to(u)

    def _rows(self, u: Particles) -> np.ndarray:
        if u.ndim != 3 or u.shape[1:] != self.reference.shape:
            raise InputError("u", f"shape (batch, {self.n_particles}, 3)", tuple(u.shape))
        still = u.detach().to("cpu", torch.float64).contiguous()
        return still.reshape(len(u), 3 * self.n_particles).numpy()

    def _on_lists(
        self, evaluate: Callable[..., None], rows: np.ndarray, *outputs: np.ndarray
    ) -> None:
        """Fill ``outputs`` with ``evaluate(rows, pairs, extent, *outputs)``, row by row."""
        from helmflow.kernels.threads import over_chunks

        extent = np.empty(len(rows))

        def chunk(start: int, stop: int) -> None:
            part = slice(start, stop)
            evaluate(rows[part], self.pairs, extent[part], *(out[part] for out in outputs))

        over_chunks(chunk, len(rows))
        for b in self._outside(extent):
            pairs = self._own_pairs(torch.from_numpy(rows[b]).reshape(-1, 3))
            single = [out[b : b + 1] for out in outputs]
            if pairs is None:
                for out in single:
                    out.fill(np.nan)
            else:
                evaluate(np.zeros((1, rows.shape[1])), pairs, np.empty(1), *single)

    def _outside(self, extent: np.ndarray) -> list[int]:
        """Rows, by their largest squared displacement, that the list does not cover."""
        # Written so that NaN is outside.
        return np.flatnonzero(~(extent <= min(self.covered, self.farthest) ** 2)).tolist()

    def _own_pairs(self, u: Tensor) -> PairList | None:
        """The list of one configuration (n, 3); None where it cannot be resolved."""
        resolved = bool((u.abs() <= self.farthest).all())
        if self.nearest or not resolved:
            return None
        return self._list(self.reference.cpu() + u, self.range)

    def _list(self, positions: Tensor, cutoff: float) -> PairList:
        return all_images(positions, self.cell, cutoff * (1 + 1e-12))

    def _within(self, extent: np.ndarray) -> PairList:
        """The pairs that can come within range at displacements up to ``extent``."""
        longest = np.sqrt(np.max(extent, where=np.isfinite(extent), initial=0.0))
        return select_pairs(self.pairs, self.range + 2 * longest)

    def _differentiable(self, u: Tensor, pairs: PairList) -> Values:
        first = np.repeat(np.arange(self.n_particles), np.diff(pairs.offsets))
        start = torch.from_numpy(first).to(u.device)
        end = torch.from_numpy(pairs.index.astype(np.int64)).to(u.device)
        d = torch.from_numpy(pairs.vectors).reshape(-1, 3).to(u) + u[:, end] - u[:, start]
        if pairs.box is not None:
            box = torch.from_numpy(pairs.box).to(u)
            d = d - box * (d / box).round()
        return self._from_vectors(d, start, end)
