"""Which map to try between two OpenMM states."""

from collections.abc import Sequence

import torch

from helmflow.bijectors.affine import VolumeScaling
from helmflow.bijectors.base import Bijector
from helmflow.bijectors.moved_molecules import Surroundings
from helmflow.energies.constant_pressure import ConstantPressure
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.energies.openmm_path import changed_particles
from helmflow.errors import InputError
from helmflow.families.two_states.boxes import same_box
from helmflow.families.two_states.openmm_files import Sampled
from helmflow.families.two_states.solvent_path import openmm_energy, parameter_slopes
from helmflow.families.two_states.whole_molecules import links_of
from helmflow.thermo import ThermodynamicState
from helmflow.training.map_fit import GaussianFit, MapFit
from helmflow.training.molecule_fit import MoleculeFit
from helmflow.training.periodic_fit import PLAN, PeriodicFit
from helmflow.training.plan import TrainingPlan
from helmflow.training.solvent_fit import SolventFit

SAME_SHAPE = 1e-5
"""Difference of box vectors, relative to the longest, after scaling to one volume."""

AROUND_A_SOLUTE = ("transport", "periodic", "refined")
Bonds = Sequence[tuple[int, int]]


def choose_map(
    choice: str, a: Sampled, b: Sampled, steps: int, solute: str = ""
) -> Bijector | MapFit | None:
    """The map that a user named, or for "auto" the one that suits the systems.

    "auto": between boxes of different size molecules are moved apart (scaling); one molecule
    without a box gets a Gaussian map of its internal coordinates; otherwise, and at constant
    pressure, none. ``solute`` is for maps of a solvent, see `solute_of`. Raises ``InputError``
    for a map that does not suit, and for boxes of two shapes unless the choice is "none".
    """
    if isinstance(a.state.energy, ConstantPressure):
        if choice in ("auto", "none"):
            return None
        raise InputError("map", "none at constant pressure", f"'{choice}'")
    energy, n = openmm_energy(a.state), a.samples.shape[1]
    if choice == "auto":
        choice = _for_one_box(a) if _one_box(a, b) else "scaling"
    if choice == "none":
        return None
    if choice == "gaussian":
        return GaussianFit()
    if choice == "scaling":
        return VolumeScaling(_scale(a, b), n, molecules(energy, a.bonds))
    if choice in AROUND_A_SOLUTE:
        return _around_a_solute(choice, a, b, steps, solute)
    if energy.is_periodic:
        named = ", ".join(("none", "scaling", *AROUND_A_SOLUTE))
        raise InputError("map", f"one of {named} for a periodic system", f"'{choice}'")
    # Enough steps for the published force fields of a dipeptide; the best weights are kept.
    plan = TrainingPlan(steps=steps, batch=64, clip_norm=100.0) if choice == "trained" else None
    return MoleculeFit(n, a.bonds, plan=plan)


def surroundings(
    a: ThermodynamicState, b: ThermodynamicState, bonds: Bonds, solute: str = ""
) -> Surroundings:
    """The molecules of a periodic OpenMM system around its solute.

    ``bonds`` make molecules; virtual sites belong to their parents, and molecules of frozen
    particles stay. ``solute`` as in `solute_of`. Raises ``InputError`` for states without a box.
    """
    energy = openmm_energy(a)
    if not energy.is_periodic:
        raise InputError("map", "a periodic system for a map of a solvent", "one without a box")
    every = molecules(energy, bonds)
    solute_particles = set(solute_of(energy, openmm_energy(b), solute))
    centre = [i for m in every if solute_particles & set(m) for i in m]
    moving = [m for m in every if not solute_particles & set(m) and energy.masses[m].any()]
    if not moving:
        raise InputError(
            "solute",
            "part of the particles (indices such as 0,4-7, or origin)",
            "all of them: every particle's parameters change",
        )
    cell = torch.from_numpy(energy.box)
    return Surroundings(energy.n_particles, moving, centre, cell)


def solute_of(a: OpenMMEnergy, b: OpenMMEnergy, text: str) -> list[int]:
    """Particles of the solute: "0,4-7" lists them, "origin" is none, "" those that change."""
    if text == "origin":
        return []
    if not text:
        return changed_particles(a.system, b.system)
    try:
        parts = [[int(k) for k in part.split("-")] for part in text.split(",")]
    except ValueError:
        parts = [[]]
    particles = [i for part in parts for i in range(part[0], part[-1] + 1)] if all(parts) else []
    if not particles or min(particles) < 0 or max(particles) >= a.n_particles:
        raise InputError("solute", "indices such as 0,4-7 or the word origin", text)
    return particles


def molecules(energy: OpenMMEnergy, bonds: Bonds) -> list[list[int]]:
    """Particles that bonds connect, in order; virtual sites go with the particles they follow."""
    links = links_of(energy.system, bonds)
    near: list[list[int]] = [[] for _ in range(energy.n_particles)]
    for i, j in links:
        near[i].append(j)
        near[j].append(i)
    groups, seen = [], [False] * energy.n_particles
    for start in range(energy.n_particles):
        if seen[start]:
            continue
        seen[start], members = True, [start]
        for i in members:  # grows on the way
            fresh = [j for j in near[i] if not seen[j]]
            members += fresh
            for j in fresh:
                seen[j] = True
        groups.append(sorted(members))
    return groups


def _around_a_solute(choice: str, a: Sampled, b: Sampled, steps: int, solute: str) -> MapFit:
    if not _one_box(a, b):
        raise InputError("map", "scaling for two boxes", f"'{choice}'")
    around = surroundings(a.state, b.state, a.bonds, solute)
    plan = TrainingPlan(
        steps=steps,
        batch=PLAN.batch,
        learning_rate=PLAN.learning_rate,
        clip_norm=PLAN.clip_norm,
    )
    if choice == "periodic":
        return PeriodicFit(around, plan=plan)
    fitted = SolventFit(around, parameter_slopes(a.state, b.state))
    return fitted if choice == "transport" else PeriodicFit(around, first=fitted, plan=plan)


def _for_one_box(a: Sampled) -> str:
    energy, n = openmm_energy(a.state), a.samples.shape[1]
    whole = len(molecules(energy, a.bonds)) == 1 and (energy.masses > 0.0).all()
    free = whole and n > 3 and not len(energy.constraints)
    return "molecule" if free and not energy.is_periodic else "none"


def _one_box(a: Sampled, b: Sampled) -> bool:
    first, last = openmm_energy(a.state), openmm_energy(b.state)
    return not (first.is_periodic and last.is_periodic) or same_box(first.box, last.box)


def _scale(a: Sampled, b: Sampled) -> float:
    """That of all lengths from one box to the other; they must have one shape."""
    if _one_box(a, b):
        return 1.0
    first, last = openmm_energy(a.state).box, openmm_energy(b.state).box
    scale = float((last.diagonal().prod() / first.diagonal().prod()) ** (1.0 / 3.0))
    if not same_box(scale * first, last, SAME_SHAPE):
        raise InputError("map", "boxes of one shape", f"{first.tolist()} and {last.tolist()} nm")
    return scale
