"""Whether sampled states can be compared at all, judged before anything is computed."""

from collections.abc import Sequence

import numpy as np
import torch

from helmflow.bijectors.affine import VolumeScaling
from helmflow.bijectors.base import Bijector, Identity
from helmflow.energies.constant_pressure import ConstantPressure
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.errors import InputError
from helmflow.families.two_states.endpoints import State
from helmflow.thermo import ThermodynamicState
from helmflow.training.map_fit import MapFit

Array = np.ndarray
SAME = 1e-7
"""Difference of constrained distances, nm, and of masses, dalton, that counts as none."""


def openmm_of(state: State) -> OpenMMEnergy | None:
    """The OpenMM energy of a state, at constant volume or pressure; None for any other."""
    energy = state.energy if isinstance(state, ThermodynamicState) else None
    if isinstance(energy, ConstantPressure):
        return energy.openmm
    return energy if isinstance(energy, OpenMMEnergy) else None


def check_comparable(states: Sequence[State], given: Bijector | MapFit | None = None) -> None:
    """Refuses OpenMM states that are one and the same, or on surfaces that differ.

    Raises ``InputError`` for a System with global parameters that is given twice, for constraints
    that differ, and for a map that does not keep constraints.
    """
    known = [(s, e) for s in states if (e := openmm_of(s)) is not None]
    if not known:
        return
    held, masses = known[0][1].constraints, known[0][1].masses
    for _, energy in known[1:]:
        _check_constraints(held, masses, energy)
    seen = set()
    for state, energy in known:
        identity = _identity(state, energy)
        if identity in seen and energy.parameters:
            raise _given_twice(sorted(energy.parameters))
        seen.add(identity)
    if len(held) and not _keeps(held, given):
        expected = (
            "none for a System with constraints, which a map of coordinates does not keep "
            "(or build it with constraints=None, rigidWater=False; that is another model)"
        )
        raise InputError("map", expected, f"{len(held)} constraints")


def _check_constraints(held: Array, masses: Array, other: OpenMMEnergy) -> None:
    """On one surface, measured by the masses alone, ratios of densities need no measure."""
    theirs, particles = other.constraints, np.unique(held[:, :2].astype(int))
    if (
        held.shape != theirs.shape
        or np.abs(held - theirs).max(initial=0.0) > SAME
        or np.abs(masses[particles] - other.masses[particles]).max(initial=0.0) > SAME
    ):
        expected = "one set of constraints, with the same masses, in all states"
        raise InputError("system", expected, f"{len(held)} and {len(theirs)} that differ")


def _identity(state: State, energy: OpenMMEnergy) -> tuple[object, ...]:
    """What is equal for states that are one: temperature, pressure, System."""
    from openmm import XmlSerializer

    pressure = getattr(getattr(state, "energy", None), "pressure", None)
    return getattr(state, "beta", None), pressure, XmlSerializer.serialize(energy.system)


def _given_twice(parameters: Sequence[str]) -> InputError:
    return InputError(
        "system",
        "states that differ (one System was given twice; if its trajectories differ in a "
        "parameter of the Context, make that the default of each XML: "
        "setGlobalParameterDefaultValue)",
        ", ".join(parameters[:4]) + " and more" * (len(parameters) > 4) + " the same in both",
    )


def _keeps(held: Array, given: Bijector | MapFit | None) -> bool:
    """Whether a map keeps constraints: none, or one that moves molecules as a whole."""
    if isinstance(given, VolumeScaling):
        i, j = torch.from_numpy(held[:, :2].astype(int)).T
        return bool(torch.equal(given.owner[i], given.owner[j]))
    return given is None or isinstance(given, Identity)
