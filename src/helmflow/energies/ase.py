"""Energies from any calculator of the Atomic Simulation Environment (ASE)."""

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from helmflow.energies.base import ParticleEnergy
from helmflow.energies.bridge import differentiable_once
from helmflow.energies.programs import require_allowed, require_calculator
from helmflow.errors import EnergyError, InputError
from helmflow.manifolds.periodic import PeriodicCell
from helmflow.shapes import Particles, Values
from helmflow.tables import nearest

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator


FAILURES = Exception
"""What an unknown calculator may raise: anything."""


class ASEEnergy(ParticleEnergy):
    """The potential energy an ASE calculator gives, in eV, with forces in eV/angstrom.

    One configuration at a time, in the calculator's own precision; the gradient is minus the
    forces, and the energy is the one consistent with them (``free_energy``) where the calculator
    distinguishes the two. Differentiable once. ``evaluations`` counts calls of the calculator.

    Raises ``EnergyError`` naming the calculator when it fails or returns a number that is not
    finite, so that a NaN never enters an average.
    """

    costly = True

    def __init__(self, atoms: "Atoms", calculator: "Calculator") -> None:
        reference = torch.tensor(atoms.positions, dtype=torch.float64)
        cell = PeriodicCell(torch.tensor(atoms.cell.array, dtype=torch.float64))
        super().__init__(reference, cell)
        self.atoms = atoms.copy()
        self.atoms.calc = calculator
        self.consistent = "free_energy" in calculator.implemented_properties
        self.evaluations = 0

    def forward(self, x: Particles) -> Values:
        """U at positions x (batch, n, 3), differentiable once."""
        if torch.is_grad_enabled() and x.requires_grad:
            return differentiable_once(x, self.energy_and_gradient)
        return self.displaced(self.displacements(x), gradient=False)[0]

    def displaced(self, u: Particles, *, gradient: bool = True) -> tuple[Values, Particles | None]:
        """U and dU/du at reference + u, u (batch, n, 3); positions are not wrapped."""
        positions = (self.reference + u.detach()).cpu().numpy()
        rows = [self._evaluate(row, forces=gradient) for row in positions]
        values = torch.tensor([value for value, _ in rows], dtype=torch.float64)
        if not gradient:
            return values.to(u.device), None
        forces = np.array([forces for _, forces in rows]).reshape(positions.shape)
        return values.to(u.device), torch.from_numpy(-forces).to(u.device)

    def _evaluate(self, positions: np.ndarray, forces: bool) -> tuple[float, np.ndarray | None]:
        calculator = self.atoms.calc
        name = f"the ASE calculator {type(calculator).__name__}"
        if not np.isfinite(positions).all():
            raise EnergyError(f"{name} was asked for the energy of positions that are not finite")
        self.atoms.positions = positions
        self.evaluations += 1
        try:
            force = self.atoms.get_forces() if forces else None
            value = self.atoms.get_potential_energy(force_consistent=self.consistent)
        # Whatever a calculator raises is reported under its name.
        except FAILURES as error:
            raise EnergyError(f"{name} failed: {error!r}") from error
        if force is not None and np.shape(force) != positions.shape:
            raise EnergyError(f"{name} returned forces of shape {np.shape(force)}")
        if not (np.isfinite(value) and (force is None or np.isfinite(force).all())):
            raise EnergyError(f"{name} returned energy {value} or forces that are not finite")
        return float(value), force


def calculator_energy(
    atoms: "Atoms", *, calculator: str, arguments: dict[str, Any] | None = None
) -> ASEEnergy:
    """The energy of a calculator named as ``"package.module:Name"`` in a system file.

    ``Name`` is a calculator class or a function that returns a calculator, called with
    ``arguments``. Raises ``InputError`` for a program that nobody allowed (`require_allowed`), a
    module or name that does not exist, and arguments it does not take, also where ASE itself would
    silently accept a misspelt one.
    """
    build = _import(calculator)
    given = arguments or {}
    _refuse_unknown_arguments(build, given)
    try:
        built = build(**given)
    except FAILURES as error:
        raise InputError("potential.arguments", f"what {calculator} takes", repr(error)) from error
    if not (hasattr(built, "implemented_properties") and hasattr(built, "get_potential_energy")):
        raise InputError("potential.calculator", "an ASE calculator", f"{calculator} ({built!r})")
    if "forces" not in built.implemented_properties:
        raise InputError("potential.calculator", "a calculator with forces", calculator)
    return ASEEnergy(atoms, built)


def _import(calculator: str) -> Callable[..., Any]:
    field = "potential.calculator"
    module_name, _, name = calculator.partition(":")
    if not re.fullmatch(r"[A-Za-z_][\w.]*:\w+", calculator):
        raise InputError(field, "'package.module:Name'", repr(calculator))
    require_allowed(module_name, field)
    try:
        module = importlib.import_module(module_name)
    # Whatever an unknown module raises while it is imported.
    except FAILURES as error:
        raise InputError(field, "an importable module", f"'{module_name}' ({error})") from error
    build = getattr(module, name, None)
    if not callable(build):
        hint = nearest(name, vars(module))
        raise InputError(field, f"a calculator in {module_name}{hint}", f"'{name}'")
    require_calculator(build, module_name, field)
    return build


def _refuse_unknown_arguments(build: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """ASE's own base class keeps every keyword as a parameter; its defaults list the real ones."""
    try:
        parameters = inspect.signature(build).parameters
    except ValueError:  # compiled without a signature: the call itself will tell
        return
    known = [name for name in parameters if name not in ("args", "kwargs", "self")]
    swallows = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    defaults = getattr(build, "default_parameters", None)
    if swallows and not defaults:
        return
    known += list(defaults or {})
    for name in given:
        if name not in known:
            expected = f"one of {', '.join(known)}{nearest(name, known)}"
            raise InputError(f"potential.arguments.{name}", expected, f"'{name}'")
