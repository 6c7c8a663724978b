"""An OpenMM reporter that writes the potentials of all states while a simulation runs."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from helmflow.energies.constant_pressure import ConstantPressure, with_boxes
from helmflow.errors import InputError
from helmflow.families.two_states.comparable import openmm_of
from helmflow.families.two_states.difference import temperature_of
from helmflow.thermo import ThermodynamicState

if TYPE_CHECKING:
    from openmm import State
    from openmm.app import Simulation

Array = np.ndarray

SAME_BOX = 1e-6
"""Relative difference of box vectors from those of a state of constant volume."""


class PotentialReporter:
    """Writes reduced potentials of every state to a CSV file that `helmflow estimate` reads.

    ``states``: what `openmm_states` made, or any states of one temperature. Every ``interval``
    steps a line with the time in ps, the state that the simulation is in, the volume in nm^3 and
    u of every state in kT; it is on the disk before the simulation goes on. A file that is there
    is continued, without a last line that a crash has cut short. ``state``: where the simulation
    is; if not given, the only state whose parameters the Context has, looked up every time, so
    that a lambda may change on the way. Raises InputError for another file of that name, and
    during the simulation for parameters of no state and, at constant volume, another box.
    """

    def __init__(
        self,
        path: str | Path,
        states: Sequence[ThermodynamicState],
        interval: int,
        *,
        state: int | None = None,
    ) -> None:
        energies = [openmm_of(s) for s in states]
        temperature = temperature_of(*states)
        if len(states) < 2 or temperature is None or any(e is None for e in energies):
            raise InputError("states", "two or more OpenMM states of one temperature", len(states))
        if interval < 1:
            raise InputError("interval", "at least 1 step", interval)
        if state is not None and not 0 <= state < len(states):
            raise InputError("state", f"0 to {len(states) - 1}, or none", state)
        self.states, self.interval, self.state = tuple(states), interval, state
        self._energies = [e for e in energies if e is not None]
        columns = ["time", "state", "volume", *(str(k) for k in range(len(states)))]
        head = f"# temperature = {temperature:.10g}\n{','.join(columns)}\n"
        self.path = Path(path)
        _continue(self.path, head)

    def describeNextReport(self, simulation: "Simulation") -> dict[str, Any]:  # noqa: N802
        """When OpenMM is to report next, and what."""
        left = self.interval - simulation.currentStep % self.interval
        return {"steps": left, "periodic": False, "include": ["positions"]}

    def report(self, simulation: "Simulation", state: "State") -> None:
        """One line of the file."""
        index = self._here(simulation) if self.state is None else self.state
        x = _in_nm(state.getPositions(asNumpy=True))[None]
        box = _in_nm(state.getPeriodicBoxVectors(asNumpy=True))
        values = [self._potential(k, x, box) for k in range(len(self.states))]
        volume = repr(float(np.linalg.det(box))) if self._energies[0].is_periodic else ""
        time = repr(float(np.asarray(state.getTime()._value)))
        line = ",".join([time, str(index), volume, *(repr(u) for u in values)])
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def _here(self, simulation: "Simulation") -> int:
        context = dict(simulation.context.getParameters().items())
        found = [
            k
            for k, energy in enumerate(self._energies)
            if energy.parameters
            and all(abs(context.get(n, np.inf) - v) < 1e-9 for n, v in energy.parameters.items())
        ]
        if len(found) != 1:
            expected = "a simulation at the parameters of one state, or state=k"
            names = {n for e in self._energies for n in e.parameters}
            told = ", ".join(f"{n} = {context[n]:g}" for n in sorted(names) if n in context)
            raise InputError("states", expected, told or "states without parameters")
        return found[0]

    def _potential(self, k: int, x: Array, box: Array) -> float:
        state, energy = self.states[k], self._energies[k]
        if isinstance(state.energy, ConstantPressure):
            return float(state.reduced_potential(with_boxes(x, box[None]))[0])
        if energy.is_periodic and not np.allclose(box, energy.box, rtol=SAME_BOX, atol=SAME_BOX):
            expected = "the box of the states, or states with a pressure"
            raise InputError("states", expected, f"box vectors {np.diag(box)} nm")
        return float(state.reduced_potential(torch.from_numpy(x))[0])


def _in_nm(quantity: Any) -> Array:
    """Numbers of what OpenMM gives, whose own unit of length is the nanometre."""
    return np.asarray(quantity._value, dtype=np.float64)


def _continue(path: Path, head: str) -> None:
    """A file with this head, without the beginning of a line that a crash has left."""
    if not path.exists() or not path.stat().st_size:
        path.write_text(head, encoding="utf-8")
        return
    text = path.read_bytes()
    if not text.startswith(head.encode()):
        raise InputError("path", "a new file, or one of the same states", str(path))
    os.truncate(path, text.rfind(b"\n") + 1)
