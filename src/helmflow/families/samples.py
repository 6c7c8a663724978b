"""Exact samples from the flow of a finished run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from helmflow.densities.base import Density
from helmflow.errors import InputError
from helmflow.estimators.reweighting import kish_ess
from helmflow.families.registry import family_of
from helmflow.generalised_work import ReducedPotential, density_work
from helmflow.results import RunDirectory
from helmflow.samplers.independence import IndependenceChain, independence_metropolis
from helmflow.settings import load_settings
from helmflow.skeleton.run import Run
from helmflow.skeleton.weighted import draw
from helmflow.streams import stream
from helmflow.system import System, identity_of, load_system
from helmflow.units import METRES

if TYPE_CHECKING:
    import ase
    import mdtraj

LEAST_EFFECTIVE = 10.0
"""Effective samples below which exactness is a matter of luck and nothing is returned."""

CHUNK = 2048
"""Configurations drawn between two looks at the progress."""


@dataclass(frozen=True, eq=False)
class FlowSamples:
    """Proposals of a flow with their weights, and the Metropolis chain over them.

    proposals: (n, N, 3) positions of a crystal, (n, *shape) fields, (n, n_coordinates) points of a
    manifold, or links, from the flow itself;
    log_weights: (n,) ln p/q up to a constant. ``configurations`` are exact: the chain repeats a
    proposal where the next one was rejected.
    """

    system: System
    proposals: Tensor
    log_weights: Tensor
    chain: IndependenceChain

    @property
    def configurations(self) -> Tensor:
        """Configurations of the Metropolis chain, distributed like the target."""
        return self.proposals[self.chain.index]

    @cached_property
    def n_eff(self) -> float:
        """Effective number of samples: the smaller of Kish's number and n / 2 tau."""
        n = len(self.log_weights)
        return min(kish_ess(self.log_weights), n / (2.0 * self.chain.tau_acc))

    def to_ase(self) -> "list[ase.Atoms]":
        """Every configuration of the chain as ASE atoms, in the system's length unit."""
        import ase

        self._require_crystal("ASE atoms")
        symbols, cell = _symbols(self.system), self.system.sites_and_cell[1].numpy()
        return [
            ase.Atoms(symbols, positions=x, cell=cell, pbc=True)
            for x in self.configurations.numpy()
        ]

    def to_mdtraj(self) -> "mdtraj.Trajectory":
        """The chain as an mdtraj trajectory: nanometres (or sigma), single precision."""
        import mdtraj

        self._require_crystal("a trajectory")
        topology = mdtraj.Topology()
        residue = topology.add_residue("CRY", topology.add_chain())
        for symbol in _symbols(self.system):
            known = symbol != "X"
            element = mdtraj.element.get_by_symbol(symbol) if known else mdtraj.element.virtual
            topology.add_atom(symbol, element, residue)
        metres = METRES[self.system.units.length]
        scale = 1.0 if metres is None else metres / 1e-9
        x = (scale * self.configurations).numpy().astype(np.float32)
        trajectory = mdtraj.Trajectory(x, topology)
        cell = scale * self.system.sites_and_cell[1].numpy()
        trajectory.unitcell_vectors = np.tile(cell, (len(x), 1, 1))
        return trajectory

    def _require_crystal(self, what: str) -> None:
        if self.system.kind != "crystal":
            raise InputError("out", "numpy arrays (.npz) for a field or density", what)


def sample_flow(directory: str | Path, n: int, *, seed: int = 0) -> FlowSamples:
    """Draw n proposals from the flow of a finished run and make them exact by Metropolis.

    ``directory``: of `helmflow run` by a family and method that keeps its flow. Raises InputError
    for any other, and when so few of the n proposals would be effective that the result could not
    be trusted.
    """
    files = RunDirectory.open(Path(directory))
    if n < 2:
        raise InputError("n", "at least 2", n)
    system = system_of(files)
    family = family_of(system)
    settings = family.accept(load_settings(files.path / "settings.toml", {}))
    if not family.keeps_flow(settings):
        raise InputError("run", "a run that keeps a flow, such as --method flow", f"{directory}")
    if files.read_result().grade == "F":
        raise InputError("run", "a flow that passed its checks", f"{directory}, whose grade is F")
    unlimited = settings.model_copy(update={"max_evaluations": None})
    flow, u = family.flow(Run(system.name, unlimited, files))
    generator = stream(seed, "proposals")
    parts, weights = [], []
    for start in range(0, n, CHUNK):
        x, log_q = draw(flow, min(CHUNK, n - start), generator)
        parts.append(x)
        weights.append(-density_work(x, log_q, u))
    x = family.configurations(torch.cat(parts))
    return _made_exact(system, x, torch.cat(weights), seed)


def system_of(files: RunDirectory) -> System:
    """The system of a run, of which nothing is called before its digest has been compared.

    Raises InputError for one that has changed since.
    """
    if identity_of(files.system)[1] != files.digest:
        raise InputError("run", f"the system {files.path} was started with", "a changed system")
    return load_system(files.system)


def load_flow(
    directory: str | Path, system: System | None = None
) -> tuple[Density, ReducedPotential]:
    """The flow that a run of method "flow" keeps, and the reduced potential that it is for.

    ``system``: another size of the run's, for flows that serve any. Both take what the flow
    draws: displacements from the sites (batch, 3N), fields (batch, V). Raises InputError for a
    system that the flow does not belong to.
    """
    files = RunDirectory.open(Path(directory))
    family = family_of(system_of(files) if system is None else system)
    settings = load_settings(files.path / "settings.toml", {"flow": {"source": str(directory)}})
    return family.flow(Run(family.system.name, family.accept(settings)))


def _made_exact(system: System, x: Tensor, log_weights: Tensor, seed: int) -> FlowSamples:
    chain = independence_metropolis(log_weights, stream(seed, "metropolis"))
    samples = FlowSamples(system, x, log_weights, chain)
    n = len(x)
    if samples.n_eff < LEAST_EFFECTIVE:
        raise InputError(
            "n",
            f"enough for {LEAST_EFFECTIVE:.0f} effective samples (about "
            f"{int(n * LEAST_EFFECTIVE / samples.n_eff) + 1})",
            f"{n}, of which {samples.n_eff:.1f} are effective",
        )
    return samples


def _symbols(system: System) -> list[str]:
    """Chemical symbols; X where a species is not an element."""
    from ase.data import atomic_numbers

    return [name if name in atomic_numbers else "X" for name in system.species]
