"""Molecules with any calculator of the Atomic Simulation Environment (ASE)."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from helmflow.energies.ase import FAILURES
from helmflow.energies.base import Energy
from helmflow.energies.bridge import differentiable_once
from helmflow.errors import EnergyError, InputError
from helmflow.shapes import Particles, Values
from helmflow.units import METRES, convert_energy

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator


class CalculatorEnergy(Energy):
    """The energy that an ASE calculator gives a molecule at positions (batch, n, 3).

    Positions and energies are in ``length`` and ``energy`` (ASE's angstrom and eV are converted),
    so that a calculator and an OpenMM system can be the two states of one perturbation:
    ``length="nm", energy="kJ/mol"``. ``offset`` is subtracted from every energy, in the unit
    ``energy``. A configuration for which the calculator fails or returns no finite number has
    energy +inf and gradient zero and adds one to ``n_infinite``; when the first ever fails the
    calculator is taken to be broken and ``EnergyError`` says why. Differentiable once.
    """

    costly = True

    def __init__(
        self,
        atoms: "Atoms",
        calculator: "Calculator",
        *,
        length: str = "angstrom",
        energy: str = "eV",
        offset: float = 0.0,
    ) -> None:
        super().__init__()
        metres = METRES.get(length)
        if metres is None:
            raise InputError("length", "a physical unit of length", repr(length))
        self.atoms = atoms.copy()
        self.atoms.calc = calculator
        self._to_angstrom = metres / 1e-10
        self._from_eV = convert_energy(1.0, "eV", energy)
        self.offset = offset
        self.n_evaluations = 0
        self.n_infinite = 0

    def forward(self, x: Particles) -> Values:
        """Energies (batch,)."""
        if torch.is_grad_enabled() and x.requires_grad:
            return differentiable_once(x, self.energy_and_gradient)
        return self._rows(x, forces=False)[0]

    def energy_and_gradient(self, x: Particles) -> tuple[Values, Particles]:
        """Energies (batch,) and gradients +dU/dx (batch, n, 3), without a graph."""
        return self._rows(x, forces=True)

    def _rows(self, x: Particles, forces: bool) -> tuple[Values, Particles]:
        if x.shape[1:] != (len(self.atoms), 3):
            raise InputError("x", f"shape (batch, {len(self.atoms)}, 3)", tuple(x.shape))
        rows = x.detach().cpu().numpy() * self._to_angstrom
        values, slopes = np.full(len(rows), np.inf), np.zeros_like(rows)
        for k, row in enumerate(rows):
            values[k] = self._row(row, slopes[k] if forces else None)
        values = values * self._from_eV - self.offset
        slopes *= self._from_eV * self._to_angstrom
        return torch.from_numpy(values), torch.from_numpy(slopes)

    def _row(self, positions: np.ndarray, slope: np.ndarray | None) -> float:
        """Energy of one configuration in eV; fills its gradient in eV/angstrom."""
        self.n_evaluations += 1
        if not np.isfinite(positions).all():
            self.n_infinite += 1
            return np.inf
        self.atoms.positions = positions
        try:
            force = self.atoms.get_forces() if slope is not None else None
            value = float(self.atoms.get_potential_energy())
        except FAILURES as error:
            self.n_infinite += 1
            if self.n_infinite == self.n_evaluations:
                name = type(self.atoms.calc).__name__
                raise EnergyError(f"the ASE calculator {name} failed: {error!r}") from error
            return np.inf
        if not np.isfinite(value) or (force is not None and not np.isfinite(force).all()):
            self.n_infinite += 1
            return np.inf
        if slope is not None and force is not None:
            np.negative(force, out=slope)
        return value
