"""Crystals: displacements from lattice sites, centre of mass fixed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from helmflow.densities.gaussian import Gaussian
from helmflow.densities.phonons import force_constants
from helmflow.energies.base import ParticleEnergy
from helmflow.errors import InputError
from helmflow.families.path.problem import Problem
from helmflow.families.path.radial_distribution import RadialDistribution
from helmflow.fields.base import GradientField, TransportField
from helmflow.fields.pairs import PairField, RadialGrid, bond_shells, joined
from helmflow.fields.potential import HarmonicField, TargetField
from helmflow.fields.response import ResponseField, cells_of_bonds
from helmflow.fields.triplets import TripletField, has_equal_neighbours, nearest_neighbours
from helmflow.generalised_work import require_gradients
from helmflow.manifolds.symmetry import crystal_symmetry
from helmflow.shapes import Values
from helmflow.skeleton.budget import Budget
from helmflow.streams import stream
from helmflow.system import System

FORCE_TOLERANCE = 1e-3
"""Largest force at the reference, in kT per nearest-neighbour distance."""

THERMAL_REACH = (3.5, 4.0)
"""Standard deviations below and above the length of a bond that its Gaussians cover."""

MOST_NEIGHBOURS = 14
"""Of a site, up to which triplets are used: their number grows as the square."""

MOST_ELEMENTS = 1200
"""Numbers per cell of bonds up to which curvatures are coupled: memory grows as the square."""


class CrystalProblem(Problem):
    """A crystal of N particles; u = displacements, flattened to 3N, of zero mean.

    Z = (V/N) N^(3/2) Lambda^(-3N) int d^(3N-3)u exp(-beta U),  the integral over orthonormal
    coordinates of the zero-mean space: all translations and permutations of one crystal counted,
    divided by N! (the convention of doi:10.1088/2632-2153/ac6b16).
    """

    noun = "crystal"
    n_translations = 3
    observable_names = ("potential energy per particle",)
    fit_iterations = 4

    def __init__(self, system: System, budget: Budget | None = None) -> None:
        super().__init__(system, budget)
        if not isinstance(system.energy, ParticleEnergy):
            raise InputError("potential", "one of particles", type(system.energy).__name__)
        self._energy = system.energy
        self.costly = self._energy.costly
        self.smooth = self._energy.continuous_forces
        self.continuous = self._energy.continuous
        self._positions, self._cell = (part.numpy() for part in system.sites_and_cell)
        self._shells = bond_shells(self._positions, self._cell, system.species, 2)
        if not self._shells:
            raise InputError(
                "structure.file", "at least 2 particles per cell", len(self._positions)
            )
        self.symmetry = crystal_symmetry(self._positions, self._cell, system.species)
        self._radial = RadialDistribution(self._positions, self._cell, self._shells[0].radius)
        self._check_forces()

    def target(self, u: Tensor) -> tuple[Values, Tensor]:
        """Reduced potential (batch,) and gradient (batch, 3N) at displacements u (batch, 3N)."""
        self.budget.spend(len(u))
        moved = u.view(-1, *self._positions.shape)
        energy, gradient = self._energy.displaced(moved)
        require_gradients(gradient, moved, "potential")
        return self.system.beta * energy, self.system.beta * gradient.reshape(u.shape)

    def starting_precision(self) -> Tensor:
        """Hessian at the reference structure (the phonons)."""
        return force_constants(self.target, self.symmetry, step=1e-4 * self._shells[0].radius)

    def fields(self, base: Gaussian) -> Sequence[GradientField]:
        """Harmonic, first two shells of bonds and, where forces are smooth, the potential.

        None at all where the energy jumps: partial integration would miss the jumps.
        """
        if not self.continuous:
            return []
        fields: list[GradientField] = [HarmonicField(base.dim)]
        if self.smooth:
            # Needs continuous forces: a truncated potential would break the Stein identity.
            fields.append(self._potential_field(base))
        for shell in self._shells:
            n_radial = ((8, 5) if self.smooth else (10, 4))[shell.rank]
            grid = RadialGrid.around(shell, base.covariance, n_radial, THERMAL_REACH)
            fields.append(PairField(shell, base.covariance, grid, mirrored=self.smooth))
        return fields

    def transport_fields(
        self, base: Gaussian, grids: Sequence[Sequence[float]] = ()
    ) -> Sequence[TransportField]:
        """Two shells of bonds both ways round; the potential where it is smooth; triplets.

        Triplets need equally many nearest neighbours of every site, and few of them. For a
        cheap potential whose forces jump `second_order_field` does better without them.
        """
        n, covariance = len(self._positions), base.covariance
        fields: list[TransportField] = [self._potential_field(base)] if self.smooth else []
        fit = iter(RadialGrid(low, high, int(count)) for low, high, count in grids)
        for shell in self._shells:
            n_radial = ((8, 5) if self.smooth else (10, 6))[shell.rank]
            around = RadialGrid.around(shell, covariance, n_radial, THERMAL_REACH)
            fields.append(PairField(shell, covariance, next(fit, around), mirrored=True))
        nearest = joined([shell for shell in self._shells if shell.rank == 0])
        many_body = self.smooth or self.costly
        if many_body and has_equal_neighbours(nearest, n, most=MOST_NEIGHBOURS):
            n_radial, reach = (2, THERMAL_REACH) if self.smooth else (3, (1.5, 2.0))
            around = RadialGrid.around(nearest, covariance, n_radial, reach)
            neighbours, bonds = nearest_neighbours(nearest, n)
            fields.append(TripletField(neighbours, bonds, covariance, next(fit, around)))
        return fields

    def second_order_field(
        self, base: Gaussian, fields: Sequence[TransportField], weights: np.ndarray
    ) -> TransportField | None:
        """The response to the forces of the nearest bonds, where these are all there is.

        None where forces are smooth: there most of the work is the potential's, not the bonds'.
        None too for large crystals without translations, where all bonds are too many to couple.
        """
        if self.smooth:
            return None
        parts = np.split(weights, np.cumsum([field.size for field in fields])[:-1])
        nearest = [
            (field, part)
            for field, part in zip(fields, parts, strict=True)
            if isinstance(field, PairField) and field.shell.rank == 0
        ]
        pairs, pair_weights = zip(*nearest, strict=True)
        cells = cells_of_bonds(joined([field.shell for field in pairs]), base.cells)
        if cells.block_size > MOST_ELEMENTS:
            return None

        def respond(force: Tensor) -> Tensor:
            return base.colour(base.pull(force))

        return ResponseField(pairs, pair_weights, base.covariance, cells, respond)

    def grids(self, fields: Sequence[TransportField]) -> list[list[float]]:
        """Gaussians of every shell."""
        return [list(f.grid) for f in fields if isinstance(f, PairField | TripletField)]

    def fingerprint(self) -> Mapping[str, float]:
        """Energy and volume per particle, and the first shells."""
        zero = torch.zeros(1, *self._positions.shape, dtype=torch.float64)
        n, energy = len(self._positions), self._energy.displaced(zero, gradient=False)[0]
        numbers = {
            "energy per particle (kT)": self.system.beta * energy.item() / n,
            "volume per particle": abs(np.linalg.det(self._cell)) / n,
            "beta": self.system.beta,
            "continuous forces": float(self.smooth),
        }
        for k, shell in enumerate(self._shells):
            numbers[f"radius of shell {k + 1}, {shell.name}"] = shell.radius
            numbers[f"bonds per particle in shell {k + 1}, {shell.name}"] = len(shell.first) / n
        return numbers

    def _potential_field(self, base: Gaussian) -> TargetField:
        energy, beta, covariance = self._energy, self.system.beta, base.covariance

        def trace(u: Tensor) -> Tensor:
            return beta * energy.hessian_trace(u.view(-1, *self._positions.shape), covariance)

        return TargetField(lambda u: self.target(u)[1], trace)

    @property
    def log_measure(self) -> float:
        """ln[(V/N) N^(3/2)] - sum over particles of 3 ln Lambda."""
        return log_measure(self.system)

    def observe(self, u: Tensor, potential: Values) -> Tensor:
        """Potential energy per particle in the system's energy unit: (1, batch)."""
        return (potential / (self.system.beta * len(self._positions)))[None]

    def histogram(self, u: Tensor) -> Tensor:
        """Pair distances of every configuration, counted in bins."""
        return self._radial.count(u)

    def curves(self, counts: Tensor, base: Gaussian, seed: int) -> Mapping[str, np.ndarray]:
        """Radial distribution functions of target and base."""
        from_base = self._radial.count(base.sample(64, stream(seed, "radial distribution")))
        target, stderr = self._radial.normalise(counts)
        return {
            "rdf_r": self._radial.r,
            "rdf_target": target,
            "rdf_target_stderr": stderr,
            "rdf_base": self._radial.normalise(from_base)[0],
        }

    def normalise_histogram(self, counts: Tensor) -> np.ndarray:
        """g(r) from mean pair counts."""
        return self._radial.normalise(counts[None])[0]

    def displaced_fraction(self, u: Tensor) -> float:
        """Fraction of particles further than half a bond from their site."""
        distance = u.view(-1, *self._positions.shape).norm(dim=2)
        return (distance > 0.5 * self._shells[0].radius).double().mean().item()

    def _check_forces(self) -> None:
        zero = torch.zeros(1, self._positions.size, dtype=torch.float64)
        _, gradient = self.target(zero)
        force = gradient.view(-1, 3).norm(dim=1)
        largest = force.max().item() * self._shells[0].radius
        if not largest < FORCE_TOLERANCE:
            worst = int(force.argmax())
            unit = f"{self.system.units.energy}/{self.system.units.length}"
            raise InputError(
                "structure",
                "a minimum of the potential (set structure.relax = true to get there)",
                f"a force of {force.max().item() / self.system.beta:.3g} {unit} "
                f"on particle {worst}",
            )


def log_measure(system: System) -> float:
    """ln[(V/N) N^(3/2)] - sum over particles of 3 ln Lambda."""
    _, cell = system.sites_and_cell
    n, volume = system.n_particles, abs(np.linalg.det(cell.numpy()))
    return math.log(volume / n) + 1.5 * math.log(n) - system.log_thermal_volume
