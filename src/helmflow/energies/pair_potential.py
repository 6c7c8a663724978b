"""Truncated pair potentials: everything but the function of the distance."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import fields
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from helmflow.energies.listed import ListedEnergy
from helmflow.shapes import Values

_COMMON = ("reference", "images", "skin", "cutoff", "shift")


class PairPotential(ListedEnergy):
    """Sum over pairs of a function u of their distance, cut at r_c.

        U = sum_{i<j} [u(r_ij) - u(r_c)],   r_ij < r_c

    A potential is a subclass with its parameters, positive numbers, as fields, and with ``pair``
    and ``pair_energy``; see `helmflow.energies.morse`. ``length="sigma"`` after the base class
    names the parameter that is roughly the diameter of a particle.

    Args:
        reference, cell_matrix, images: see ``ListedEnergy``.
        cutoff: r_c, in the unit of the sites. No tail correction.
        shift: subtract u(r_c), which makes the energy continuous.
        skin: how much further than the cutoff neighbours are listed; 0.9 ``length`` by default.

    Raises:
        InputError: see ``ListedEnergy``; or a parameter is not a positive number.
    """

    cutoff: float
    shift: bool = True

    # No fields: check_parameters sets them.
    constants = ()
    core = 0.0

    def __init_subclass__(cls, *, length: str) -> None:
        super().__init_subclass__()
        cls._length = length

    def check_parameters(self) -> None:
        """Raise ``InputError`` where a parameter is not positive, or they do not go together.

        Sets ``constants``, which ``pair`` takes after r^2, to the parameters in their order. A
        subclass may set others, and the ``core`` up to which u is infinite.
        """
        names = [entry.name for entry in fields(self) if entry.name not in _COMMON]
        self._require_positive(*names, "cutoff")
        self.constants = tuple(float(getattr(self, name)) for name in names)

    def __post_init__(self, cell_matrix: Tensor) -> None:
        super().__post_init__(cell_matrix)
        self._require(self.cutoff > self.core, "cutoff", f"more than the core, {self.core:.6g}")

    @property
    def length(self) -> float:
        """Roughly the diameter of a particle, in the unit of the sites."""
        return getattr(self, self._length)

    @property
    def range(self) -> float:
        """The cutoff."""
        return self.cutoff

    @property
    def usual_skin(self) -> float:
        """Nine tenths of a diameter."""
        return 0.9 * self.length

    @property
    def closest(self) -> float:
        """The core, or three tenths of a diameter."""
        return max(0.3 * self.length, self.core)

    @property
    def units(self) -> tuple[float, float]:
        """What ``pair`` gives u in, and u'/r and u''; the kernel multiplies by them at the end."""
        return 1.0, 1.0

    @staticmethod
    @abstractmethod
    def pair(r2: Any, *constants: float) -> tuple[Any, Any, Any]:
        """u, u'/r and u'' in ``units`` from r^2, for SIMD values: compiled into the kernels."""

    @abstractmethod
    def pair_energy(self, r: Tensor) -> Tensor:
        """u(r) of distances of any shape beyond the core, differentiable; without the shift."""

    @cached_property
    def at_cutoff(self) -> float:
        """u(r_c)."""
        return float(self.pair_energy(torch.tensor(self.cutoff, dtype=torch.float64)))

    @property
    def offset(self) -> float:
        """What is subtracted from every pair within the cutoff."""
        return self.at_cutoff if self.shift else 0.0

    @property
    def continuous(self) -> bool:
        """Without the shift the energy jumps where pairs cross the cutoff."""
        return self.offset == self.at_cutoff

    def _kernel(self, name: Literal["energies", "traces"]) -> tuple[Callable[..., None], tuple]:
        from helmflow.kernels.pair_loops import Truncation, energies_of, traces_of

        energy, slope = self.units
        cut = Truncation(float(self.cutoff), self.offset / energy, energy, slope, self.constants)
        kernel = energies_of(self.pair) if name == "energies" else traces_of(self.pair)
        return kernel, cut

    def _from_vectors(self, d: Tensor, start: Tensor, end: Tensor) -> Values:
        r2 = d.square().sum(-1)
        inside = r2 < self.cutoff**2
        # Replaced before roots and divisions, so that derivatives outside are zero, not NaN.
        r = torch.where(inside, r2, self.cutoff**2).sqrt()
        u = self.pair_energy(r.clamp_min(self.core)) - self.offset
        u = torch.where(r2 <= self.core**2, torch.inf, u)
        return torch.where(inside, u, 0.0).sum(-1)
