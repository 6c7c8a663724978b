"""From a system file to a `System`."""

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from helmflow.densities.uniform import UniformAndNormal
from helmflow.energies.ase import calculator_energy
from helmflow.energies.base import Energy, ParticleEnergy
from helmflow.energies.gauge import GaugeEnergy
from helmflow.errors import EnergyError, InputError
from helmflow.generalised_work import require_energies
from helmflow.manifolds.base import Manifold
from helmflow.manifolds.product import parse_manifold
from helmflow.streams import stream
from helmflow.system.kinds import TABLES
from helmflow.system.potential import ENERGIES, EnergyFactory, build_energy, energy_factory
from helmflow.system.schema import (
    CrystalTable,
    DensityTable,
    GaugeFieldTable,
    LatticeFieldTable,
    StateTable,
    SystemTable,
    TwoStatesTable,
)
from helmflow.system.shipped import find_system, read_table, references_of
from helmflow.system.structure import read_structure, relaxed_positions
from helmflow.system.system import System, Units
from helmflow.thermo import ThermodynamicState
from helmflow.units import BOLTZMANN, METRES, de_broglie_wavelength

if TYPE_CHECKING:
    from ase import Atoms

POINTS = 64
"""Of a manifold at which the energy of a density is looked at before anything is computed."""

LIGHTEST, HEAVIEST = 1e-4, 1e6
"""Masses in u: a fifth of an electron's, and far beyond any atom's."""

SAME = 1e-9
"""Relative difference of two energies below which they are one."""

LATTICE_UNITS = Units("lattice spacing", "action")


def load_system(
    name_or_path: str | Path, *, energies: Mapping[str, EnergyFactory] | None = None
) -> System:
    """A system from a shipped name such as ``ice/mw_cubic_64`` or the path of a TOML file.

    ``energies`` adds kinds of potential: ``{"mine": MyEnergy}`` makes ``kind = "mine"`` build
    ``MyEnergy``, a subclass of ``helmflow.energies.base.Energy`` (for a density ``forward`` with
    values alone is enough), whose arguments named ``reference``, ``cell_matrix``, ``atoms``
    (crystals) or ``shape`` (lattice fields) are supplied and whose other arguments are the keys of
    [potential].

    Raises ``InputError``, one line naming the key, for any mistake in the file.
    """
    path = find_system(name_or_path)
    table = read_table(path)
    factory = None
    if table.potential is not None:
        factory = energy_factory(table.potential, {**ENERGIES, **(energies or {})})
    return BUILDERS[table.kind](table, path, factory)


def identity_of(name_or_path: str | Path) -> tuple[str, str]:
    """Name and ``digest`` of the system in a file, of which nothing is run."""
    path = find_system(name_or_path)
    table = read_table(path)
    return table.name, _digest(path, *_beside(table, path))


def register_kind(kind: str, table: type[SystemTable], build: "Builder") -> None:
    """Let files say ``kind``: their schema, and what makes a `System` of them."""
    TABLES[kind], BUILDERS[kind] = table, build


def _two_states(table: TwoStatesTable, path: Path, factory: EnergyFactory) -> System:
    energy = build_energy(factory, table.potential, {})
    unknown = [key for key in table.final if key not in table.potential]
    if unknown or "kind" in table.final:
        key = unknown[0] if unknown else "kind"
        raise InputError(f"final.{key}", "a key of [potential] other than kind", f"'{key}'")
    last = build_energy(factory, {**table.potential, **table.final}, {})
    convention = "f_B - f_A of the configurational integrals, in kT; momenta cancel"
    system = plain_system(table, path, energy, getattr(energy, "n_particles", 1), convention)
    final = ThermodynamicState(last, system.beta)
    return replace(system, units=Units("sigma", "epsilon"), final=final)


def _lattice_field(table: LatticeFieldTable, path: Path, factory: EnergyFactory) -> System:
    shape = table.field.shape
    energy = build_energy(factory, table.potential, {"shape": shape})
    if isinstance(energy, GaugeEnergy):
        kind = repr(table.potential["kind"])
        raise InputError("potential.kind", "a potential of fields, not of gauge links", kind)
    _refuse_unusable(energy, torch.zeros(1, *shape, dtype=torch.float64))
    convention = "ln Z = ln of the integral of exp(-S) over all sites, Lebesgue measure"
    system = plain_system(table, path, energy, math.prod(shape), convention)
    return replace(system, units=LATTICE_UNITS)


def _gauge_field(table: GaugeFieldTable, path: Path, factory: EnergyFactory) -> System:
    shape = () if table.field is None else table.field.shape
    supplied = {"shape": shape} if shape else {}
    if not shape and "shape" in inspect.signature(factory).parameters:
        raise InputError("field.shape", "the extents of a lattice", "no [field]")
    energy = build_energy(factory, table.potential, supplied)
    if not isinstance(energy, GaugeEnergy):
        kind = repr(table.potential["kind"])
        raise InputError("potential.kind", "a potential of gauge links", kind)
    if energy.shape != shape:
        raise InputError("field", "none for a single link", list(shape))
    _refuse_unusable(energy, energy.cold_start(1))
    convention = "ln Z = ln of the integral of exp(-S) over all links, Haar measure (volume one)"
    system = plain_system(table, path, energy, math.prod(shape), convention)
    return replace(system, units=LATTICE_UNITS)


def _density(table: DensityTable, path: Path, factory: EnergyFactory) -> System:
    manifold = parse_manifold(table.manifold)
    energy = build_energy(factory, table.potential, {})
    if not isinstance(energy, Energy):
        kind, expected = table.potential["kind"], "a subclass of helmflow.energies.base.Energy"
        raise InputError(f"energies[{kind!r}]", expected, type(energy).__name__)
    dim = getattr(energy, "dim", manifold.dim)
    if dim != manifold.dim:
        raise InputError("manifold", f"{dim} dimensions, as the potential has", table.manifold)
    # angles do not belong on a line, where their density has no integral
    letter = getattr(energy, "letter", None)
    if letter is not None and f"{letter}{dim}" not in (repr(manifold), repr(manifold.cover)):
        raise InputError("manifold", f"{letter}{dim}, as the potential has", table.manifold)
    if manifold.compact:
        _refuse_undefined(energy, manifold.uniform(POINTS, stream(0, "points")))
    _refuse_two_values(energy, manifold)
    counted = f"{manifold}{manifold.convention}"
    volume = f"its volume {math.exp(manifold.log_volume):.10g}"
    convention = f"ln Z = ln of the integral of exp(-u) over {counted}, {volume}"
    system = plain_system(table, path, energy, manifold.dim, convention)
    return replace(system, units=Units("radian", "kT"), manifold=manifold)


def plain_system(
    table: Any, path: Path, energy: Energy, n_particles: int, convention: str
) -> System:
    """What a file says of any system without sites; beta is 1 where it has no [state]."""
    state = getattr(table, "state", StateTable(beta=1.0))
    beta = _beta(state, boltzmann=1.0)
    return System(
        name=table.name,
        kind=table.kind,
        energy=energy,
        beta=beta,
        n_particles=n_particles,
        summary=table.summary,
        temperature=state.temperature,
        references=references_of(table),
        convention=convention,
        path=path,
        digest=_digest(path),
    )


def _crystal(table: CrystalTable, path: Path, factory: EnergyFactory) -> System:
    units = Units(length=table.units.length, energy=table.units.energy)
    if factory is calculator_energy and units != Units(length="angstrom", energy="eV"):
        expected = "'angstrom' and 'eV', in which ASE calculates"
        raise InputError("units", expected, f"'{units.length}' and '{units.energy}'")
    beta = _beta(table.state, boltzmann=BOLTZMANN[table.units.energy])
    atoms = read_structure(table.structure, path.parent)
    dropped = "; constraints of the file dropped, all atoms move" if atoms.constraints else ""
    atoms.set_constraint()
    energy = _particle_energy(factory, table.potential, atoms)
    if table.structure.relax:
        atoms.positions = relaxed_positions(energy, beta)
        energy = _particle_energy(factory, table.potential, atoms)
    wavelengths = _thermal_wavelength(table, atoms)
    return System(
        name=table.name,
        kind=table.kind,
        summary=table.summary,
        n_particles=len(atoms),
        energy=energy,
        beta=beta,
        temperature=table.state.temperature,
        units=units,
        reference_positions=torch.tensor(atoms.positions, dtype=torch.float64),
        cell=torch.tensor(atoms.cell.array, dtype=torch.float64),
        species=tuple(atoms.symbols),
        thermal_wavelength=wavelengths,
        convention=_convention(tuple(atoms.symbols), wavelengths, units.length) + dropped,
        references=references_of(table),
        path=path,
        digest=_digest(path, *_beside(table, path)),
    )


def _particle_energy(
    factory: EnergyFactory, potential: Mapping[str, object], atoms: "Atoms"
) -> ParticleEnergy:
    reference = torch.tensor(atoms.positions, dtype=torch.float64)
    supplied = {
        "reference": reference,
        "cell_matrix": torch.tensor(atoms.cell.array, dtype=torch.float64),
        "atoms": atoms,
    }
    energy = build_energy(factory, potential, supplied)
    if not isinstance(energy, ParticleEnergy):
        raise InputError("potential.kind", "a potential of particles", repr(potential["kind"]))
    _refuse_unusable(energy, reference[None])
    return energy


def _refuse_undefined(energy: Energy, x: torch.Tensor) -> None:
    """Values at a few points of a manifold, no gradients: +inf is allowed, but not everywhere."""
    try:
        with torch.no_grad():
            values = require_energies(energy(x), len(x), "potential")
    except EnergyError as error:
        raise InputError("potential", "an energy at every point", str(error)) from error
    wrong = torch.isnan(values) | (values == -math.inf)
    if bool(wrong.any()):
        value, where = values[wrong][0].item(), x[wrong][0].tolist()
        raise InputError("potential", "no energy of NaN or -inf", f"{value} at {where}")
    if not bool(torch.isfinite(values).any()):
        raise InputError("potential", "a finite energy somewhere", f"inf at {len(x)} points")


def _refuse_two_values(energy: Energy, manifold: Manifold) -> None:
    """An energy of orientations must be the same at both quaternions of one."""
    x, _ = UniformAndNormal(manifold).sample_and_log_prob(POINTS, stream(0, "points"))
    for alias in manifold.aliases(x):
        with torch.no_grad():
            values, others = energy(x), energy(alias)
        apart = ~torch.isclose(values, others, SAME, SAME, equal_nan=True)
        if bool(apart.any()):
            pair = f"{values[apart][0].item():.6g} and {others[apart][0].item():.6g}"
            expected = f"one energy for both rows of a point of {manifold} (x and -x)"
            raise InputError("potential", expected, pair)


def _refuse_unusable(energy: Energy, x: torch.Tensor) -> None:
    """Evaluate once: what cannot be evaluated must fail here, not in the middle of a run."""
    try:
        if not isinstance(energy, ParticleEnergy):  # whose gradient sums up the energies
            with torch.no_grad():
                require_energies(energy(x), len(x), "potential")
        value = require_energies(energy.energy_and_gradient(x)[0], len(x), "potential").item()
    except EnergyError as error:
        raise InputError("potential", "an energy of the structure", str(error)) from error
    if not abs(value) < float("inf"):
        raise InputError("potential", "a finite energy of the structure", value)


def _beta(state: StateTable, boltzmann: float) -> float:
    if state.beta is not None:
        return state.beta
    if state.temperature is None:
        raise InputError("state", "either temperature or beta", "neither")
    scale = (state.boltzmann_constant or boltzmann) * state.temperature
    if not 1e-100 < scale < 1e100:
        raise InputError("state.temperature", "a temperature within reason", state.temperature)
    return 1.0 / scale


def _thermal_wavelength(table: CrystalTable, atoms: "Atoms") -> tuple[float, ...]:
    field = "convention.thermal_wavelength"
    wavelength = table.convention.thermal_wavelength
    if not isinstance(wavelength, str):
        return (float(wavelength),) * len(atoms)
    if METRES[table.units.length] is None:
        raise InputError(field, "a number, as units.length is sigma", repr(wavelength))
    if table.state.temperature is None:
        raise InputError(field, "a number, as the state gives no temperature", repr(wavelength))
    if "X" in atoms.symbols and not atoms.has("masses"):
        raise InputError(field, "a number, as atoms X have no mass", repr(wavelength))
    masses = atoms.get_masses()
    if not (np.isfinite(masses) & (masses > LIGHTEST) & (masses < HEAVIEST)).all():
        row = int(np.flatnonzero(~((masses > LIGHTEST) & (masses < HEAVIEST)))[0])
        expected = f"masses from {LIGHTEST:g} to {HEAVIEST:g} u"
        raise InputError("structure.file", expected, f"{masses[row]} of atom {row}")
    return tuple(
        de_broglie_wavelength(mass, table.state.temperature, table.units.length)
        for mass in masses.tolist()
    )


def _convention(species: tuple[str, ...], wavelengths: tuple[float, ...], unit: str) -> str:
    """What the absolute free energy of a crystal counts."""
    known = dict(zip(species, wavelengths, strict=True))
    values = ", ".join(
        f"Lambda = {value:.10g} {unit}"
        if len(known) == 1
        else f"Lambda({name}) = {value:.10g} {unit}"
        for name, value in known.items()
    )
    counted = "N! Lambda^3N" if len(known) == 1 else "prod_s N_s! Lambda_s^(3 N_s)"
    return (
        f"beta F = -ln[Z / ({counted})], {values}; Z over one crystal basin with all "
        "translations and permutations, no kinetic term other than Lambda"
    )


def _beside(table: SystemTable, path: Path) -> list[Path]:
    """Files that a system file names and that are there: their contents are part of it."""
    named = [path.parent / table.structure.file] if isinstance(table, CrystalTable) else []
    return [file for file in named if file.is_file()]


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            contents = path.read_bytes()
        except OSError as error:
            raise InputError("system", "files that can be read", error) from error
        digest.update(len(contents).to_bytes(8, "big") + contents)
    return digest.hexdigest()


Builder = Callable[[Any, Path, Any], System]

BUILDERS: dict[str, Builder] = {
    "crystal": _crystal,
    "lattice_field": _lattice_field,
    "gauge_field": _gauge_field,
    "density": _density,
    "two_states": _two_states,
}
"""By kind, as in `TABLES`."""
