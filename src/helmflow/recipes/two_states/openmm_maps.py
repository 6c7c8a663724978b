"""Which map to try between two OpenMM states."""

from helmflow.bijectors.base import Bijector
from helmflow.bijectors.scaling import VolumeScaling
from helmflow.energies.openmm import OpenMMEnergy
from helmflow.errors import InputError
from helmflow.recipes.two_states.openmm_files import Sampled
from helmflow.training.map_fit import GaussianFit, MapFit
from helmflow.training.molecule_fit import MoleculeFit
from helmflow.training.plan import TrainingPlan

SAME_BOX = 1e-6
"""Ratio of volumes, less one, that counts as none."""


def choose_map(choice: str, a: Sampled, b: Sampled, steps: int) -> Bijector | MapFit | None:
    """The map that a user named, or for "auto" the one that suits the systems.

    "auto": between boxes of different volumes molecules are moved apart (scaling); one molecule
    without a box gets a Gaussian map of its internal coordinates; otherwise none. Raises
    ``InputError`` for a map that does not suit.
    """
    ratio = _volume_ratio(a, b)
    if choice == "auto":
        choice = "scaling" if abs(ratio - 1.0) > SAME_BOX else _for_one_box(a)
    if choice == "none":
        return None
    if choice == "gaussian":
        return GaussianFit()
    if choice == "scaling":
        n = a.samples.shape[1]
        return VolumeScaling(ratio ** (1.0 / 3.0), n, molecules(n, a.bonds))
    n = a.samples.shape[1]
    if _energy(a).is_periodic:
        raise InputError("map", "none or scaling for a periodic system", f"'{choice}'")
    # Enough steps for the published force fields of a dipeptide; the best weights are kept.
    plan = TrainingPlan(steps=steps, batch=64, clip_norm=100.0) if choice == "trained" else None
    return MoleculeFit(n, a.bonds, plan=plan)


def molecules(n_particles: int, bonds: tuple[tuple[int, int], ...]) -> list[list[int]]:
    """Particles that bonds connect, in order."""
    member = list(range(n_particles))
    for i, j in bonds:
        old, new = max(member[i], member[j]), min(member[i], member[j])
        member = [new if m == old else m for m in member]
    return [[i for i in range(n_particles) if member[i] == m] for m in sorted(set(member))]


def _for_one_box(a: Sampled) -> str:
    energy, n = _energy(a), a.samples.shape[1]
    whole = len(molecules(n, a.bonds)) == 1 and (energy.masses > 0.0).all()
    return "molecule" if whole and n > 3 and not energy.is_periodic else "none"


def _volume_ratio(a: Sampled, b: Sampled) -> float:
    first, last = _energy(a), _energy(b)
    if not (first.is_periodic and last.is_periodic):
        return 1.0
    return float(last.box.diagonal().prod() / first.box.diagonal().prod())


def _energy(sampled: Sampled) -> OpenMMEnergy:
    energy = sampled.state.energy
    if not isinstance(energy, OpenMMEnergy):
        raise InputError("state", "an OpenMM state", type(energy).__name__)
    return energy
