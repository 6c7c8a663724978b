"""One OpenMM context per thread: where single configurations become energies and forces."""

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from helmflow.errors import EnergyError, InputError

if TYPE_CHECKING:
    import openmm

Array = np.ndarray
NOT_POTENTIALS = ("Barostat", "Thermostat", "CMMotionRemover")
"""Forces of a System that move particles or the box and have no energy."""


def potential_of(system: "openmm.System") -> "tuple[openmm.System, tuple[str, ...]]":
    """A copy of the system without barostats, thermostats and the like, and their names."""
    import openmm

    copied = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    dropped = []
    for index in reversed(range(copied.getNumForces())):
        name = type(copied.getForce(index)).__name__
        if any(part in name for part in NOT_POTENTIALS):
            dropped.append(name)
            copied.removeForce(index)
    return copied, tuple(sorted(dropped))


class Contexts:
    """Contexts of one system, one per thread, made when first used and never shared.

    After a fork the child makes its own; those of the parent are neither used nor destroyed in it,
    as a GPU driver would not survive either.
    """

    def __init__(
        self, system: "openmm.System", platform: str, properties: Mapping[str, str]
    ) -> None:
        self._system = system
        self._platform = platform
        self._properties = dict(properties)
        self._process = os.getpid()
        self._threads = threading.local()
        self._of_parents: list[threading.local] = []
        self._make()  # a platform that does not work must fail here

    def mine(self) -> "SingleContext":
        """The context of the calling thread."""
        if self._process != os.getpid():
            self._of_parents.append(self._threads)
            self._threads, self._process = threading.local(), os.getpid()
        if not hasattr(self._threads, "context"):
            self._threads.context = self._make()
        return self._threads.context

    def _make(self) -> "SingleContext":
        import openmm

        names = [
            openmm.Platform.getPlatform(i).getName()
            for i in range(openmm.Platform.getNumPlatforms())
        ]
        if self._platform not in names:
            raise InputError("platform", f"one of {', '.join(names)}", repr(self._platform))
        platform = openmm.Platform.getPlatformByName(self._platform)
        try:
            # The integrator is never used; the user's own may have side effects.
            integrator = openmm.VerletIntegrator(0.001)
            context = openmm.Context(self._system, integrator, platform, self._properties)
        except openmm.OpenMMException as error:
            raise InputError("system", "a System OpenMM can evaluate", error) from error
        return SingleContext(context)


class SingleContext:
    """One context and what it needs to be told for every configuration."""

    def __init__(self, context: "openmm.Context") -> None:
        system = context.getSystem()
        self._context = context
        self._default_box = _vectors(system)
        self.sites = [i for i in range(system.getNumParticles()) if system.isVirtualSite(i)]
        self._box_is_default = True

    @property
    def parameters(self) -> Mapping[str, float]:
        """Global parameters with their values."""
        return dict(self._context.getParameters())

    def evaluate(self, positions: Array, box: Array | None, forces: Array | None) -> float:
        """Energy in kJ/mol, +inf where particles coincide; fills ``forces`` in kJ/mol/nm if given.

        positions, forces: (n, 3) in nm, all finite; box: (3, 3) in nm or None for that of the
        system. Raises ``EnergyError`` when OpenMM fails for any other reason.
        """
        from openmm import OpenMMException

        try:
            self._set_box(box)
            self._context.setPositions(positions)
            if self.sites:
                self._context.computeVirtualSites()
            state = self._context.getState(energy=True, forces=forces is not None)
        except OpenMMException as error:
            if "NaN" in str(error):
                return np.inf
            raise EnergyError(f"OpenMM failed: {error}") from error
        if forces is not None:
            _read_forces(state, forces)
        return state.getPotentialEnergy()._value

    def _set_box(self, box: Array | None) -> None:
        if box is not None:
            self._context.setPeriodicBoxVectors(*box)
        elif not self._box_is_default:
            self._context.setPeriodicBoxVectors(*self._default_box)
        self._box_is_default = box is None


def _read_forces(state: "openmm.State", out: Array) -> None:
    """Forces without their unit, which takes OpenMM longer to attach than the rest takes here."""
    fill = getattr(state, "_getVectorAsNumpy", None)
    if fill is None:
        out[:] = cast(Any, state.getForces(asNumpy=True))._value
    else:
        fill(state.Forces, out)


def _vectors(system: "openmm.System") -> Array:
    return np.array([[c for c in v._value] for v in system.getDefaultPeriodicBoxVectors()])
