"""States and samples from the files of OpenMM workflows."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from helmflow.energies.base import Energy
from helmflow.energies.constant_pressure import ConstantPressure, with_boxes
from helmflow.energies.openmm import OpenMMEnergy, read_openmm_system
from helmflow.energies.openmm_boxes import reduced_box
from helmflow.energies.openmm_parameters import Parameters, with_parameters
from helmflow.errors import InputError
from helmflow.families.two_states.whole_molecules import Links, joined, links_of
from helmflow.results import Check
from helmflow.system.frame_files import read_topology
from helmflow.system.trajectory import Trajectory, check_order, read_trajectory
from helmflow.thermo import ThermodynamicState
from helmflow.units import BOLTZMANN

if TYPE_CHECKING:
    import openmm

MASS_TOLERANCE = 1e-3
TOLERANCE = 1e-3
"""Relative difference of temperatures and pressures that counts as none."""


@dataclass(frozen=True)
class Sampled:
    """A state, samples of it, and what there is to say about its files."""

    state: ThermodynamicState
    samples: Tensor
    notes: tuple[Check, ...]
    bonds: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Reading:
    """Which frames are read, the first and then every ``stride``-th, and who evaluates them.

    ``equilibrate``: whether those from before works settle are left out, once these are known.
    """

    start: int = 0
    stride: int = 1
    platform: str = "CPU"
    executor: Executor | None = None
    equilibrate: bool = False


def openmm_state(
    system: "openmm.System",
    temperature: float,
    *,
    pressure: float | None = None,
    platform: str = "CPU",
    executor: Executor | None = None,
) -> ThermodynamicState:
    """An OpenMM System at a temperature in kelvin: u(x) in kT of positions (batch, n, 3) in nm.

    With a ``pressure`` in bar the box varies and belongs to the configuration: x is what
    `with_boxes` makes, and u has p V in it. See `OpenMMEnergy` for platforms, executors and what
    is refused.
    """
    if not 0.0 < temperature < 1e6:
        raise InputError("temperature", "a temperature in kelvin", temperature)
    openmm_energy = OpenMMEnergy(system, platform=platform, executor=executor)
    energy: Energy = openmm_energy
    if pressure is not None:
        _check_barostat(system, pressure)
        energy = ConstantPressure(openmm_energy, pressure)
    return ThermodynamicState(energy, 1.0 / (BOLTZMANN["kJ/mol"] * temperature))


def read_states(
    systems: Sequence[tuple[str, Path]],
    trajectories: Sequence[tuple[str, Path]],
    topology: Path,
    temperature: float,
    *,
    pressure: float | None = None,
    reading: Reading | None = None,
    parameters: Sequence[Parameters] | None = None,
) -> list[Sampled]:
    """One state per pair of a System (XML) and a trajectory, each given as (field, path).

    The box is that of the trajectory; with a ``pressure`` in bar every frame has its own.
    ``parameters`` are those of each state, where the Systems have any (`openmm_states`).
    Molecules that were broken across its faces are put together along the topology's bonds. Raises
    ``InputError`` naming the field for files that are damaged or do not belong together.
    """
    if len(systems) != len(trajectories):
        raise InputError("traj", f"one for each of {len(systems)} systems", len(trajectories))
    atoms, reading = read_topology(topology), reading or Reading()
    sampled, masses = [], None
    for (field, path), (traj_field, traj_path) in zip(systems, trajectories, strict=True):
        system = read_openmm_system(path, field)
        if parameters is not None:
            system = with_parameters(system, parameters[len(sampled)])
        in_system = np.array(
            [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
        )
        check_order(atoms, in_system, field)
        _check_temperature(system, temperature, field)
        if (
            masses is not None
            and np.abs(np.sort(in_system) - np.sort(masses)).max() < MASS_TOLERANCE
        ):
            _same_order(in_system, masses, field)
        masses = in_system
        frames = read_trajectory(
            traj_path,
            atoms,
            traj_field,
            start=reading.start,
            stride=reading.stride,
            one_box=pressure is None,
        )
        bonds = tuple((b[0].index, b[1].index) for b in atoms.bonds)
        samples = _configurations(frames, system, bonds, pressure, traj_field)
        state = openmm_state(
            system,
            temperature,
            pressure=pressure,
            platform=reading.platform,
            executor=reading.executor,
        )
        notes = _notes(traj_field, frames)
        sampled.append(Sampled(state, samples, notes, bonds))
    return sampled


def _configurations(
    frames: Trajectory,
    system: "openmm.System",
    bonds: Links,
    pressure: float | None,
    field: str,
) -> Tensor:
    """Positions, each with its box at constant pressure; otherwise the System's becomes theirs."""
    if not system.usesPeriodicBoundaryConditions():
        return torch.from_numpy(frames.positions)
    if frames.box is None:
        raise InputError(field, "a box, as the system is periodic", "none")
    positions = joined(frames.positions, frames.box, links_of(system, bonds))
    if pressure is not None:
        return with_boxes(positions, frames.box)
    system.setDefaultPeriodicBoxVectors(*reduced_box(frames.box))
    return torch.from_numpy(positions)


def joint_notes(sampled: Sequence[Sampled]) -> list[Check]:
    """The notes on all trajectories; what several have in common is said once."""
    joint: dict[str, Check] = {}
    for note in (note for s in sampled for note in s.notes):
        first = joint.get(note.name)
        if first is None:
            joint[note.name] = note
            continue
        text = f"{first.explanation}; {note.explanation}"
        joint[note.name] = replace(first, value=max(first.value, note.value), explanation=text)
    return list(joint.values())


def _check_temperature(system: "openmm.System", temperature: float, field: str) -> None:
    """A barostat or thermostat that the System still has knows what it was sampled at."""
    for force in system.getForces():
        if not hasattr(force, "getDefaultTemperature"):
            continue
        thermostat = force.getDefaultTemperature()._value
        if abs(thermostat - temperature) > TOLERANCE * thermostat:
            expected = f"{thermostat:g} K, that of the {type(force).__name__} in {field}"
            raise InputError("temperature", expected, temperature)


def _check_barostat(system: "openmm.System", pressure: float) -> None:
    """A barostat that the System still has must be one that samples this pressure."""
    for force in system.getForces():
        name = type(force).__name__
        if "Barostat" not in name:
            continue
        if name != "MonteCarloBarostat":
            raise InputError("pressure", "an isotropic MonteCarloBarostat with it", name)
        barostat = force.getDefaultPressure()._value
        if abs(barostat - pressure) > TOLERANCE * abs(barostat):
            raise InputError(
                "pressure", f"{barostat:g} bar, that of the System's barostat", pressure
            )


def _same_order(masses: np.ndarray, others: np.ndarray, field: str) -> None:
    wrong = np.flatnonzero(np.abs(masses - others) > MASS_TOLERANCE)
    if wrong.size:
        k = int(wrong[0])
        expected = "particles in the order of the first system"
        raise InputError(field, expected, f"mass {masses[k]:.4g} for {others[k]:.4g} at {k}")


def _notes(field: str, frames: Trajectory) -> tuple[Check, ...]:
    notes = []
    if frames.rounded is not None:
        text = f"{field}: rounded to {frames.rounded}, which biases energies from it"
        notes.append(Check("trajectory is precise", 1.0, 0.0, False, "soft", text))
    if frames.n_missing:
        n, there = frames.n_missing, "frames that the file tells of are not there"
        notes.append(
            Check("trajectory is whole", float(n), 0.0, False, "soft", f"{field}: {n} {there}")
        )
    return tuple(notes)
