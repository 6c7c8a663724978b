"""Reference structures: reading them, refusing the unusable ones, relaxing them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from helmflow.energies.base import ParticleEnergy
from helmflow.energies.neighbours import check_separated
from helmflow.errors import InputError
from helmflow.manifolds.periodic import PeriodicCell
from helmflow.system.schema import StructureTable

if TYPE_CHECKING:
    from ase import Atoms

FILE = "structure.file"


def read_structure(table: StructureTable, folder: Path) -> "Atoms":
    """The periodic structure a system file names, in any format ASE reads.

    Raises ``InputError`` when the file is missing or unreadable, has no atoms, no or a degenerate
    cell, a cell other than ``structure.cell``, sites that are partly occupied, coincide or are
    not finite.
    """
    atoms = _read(folder / table.file)
    _set_cell(atoms, table)
    if not np.isfinite(atoms.positions).all():
        row = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
        raise InputError(FILE, "finite positions", f"{atoms.positions[row]} for atom {row}")
    _refuse_partial_occupancy(atoms)
    # A site listed twice, as happens on opposite faces of the cell, is nowhere near this far.
    spacing = (abs(atoms.cell.volume) / len(atoms)) ** (1.0 / 3.0)
    sites, cell = torch.tensor(atoms.positions), PeriodicCell(torch.tensor(atoms.cell.array))
    check_separated(sites, cell, closest=1e-2 * spacing)
    return atoms


def _read(path: Path) -> "Atoms":
    import ase.io

    if not path.is_file():
        raise InputError(FILE, "a structure file that exists", f"{path}")
    try:
        atoms: Any = ase.io.read(path)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            FILE, "a structure that ASE can read", f"{path.name} ({reason})"
        ) from error
    if len(atoms) == 0:
        raise InputError(FILE, "at least one atom", f"none in {path.name}")
    return atoms


def _set_cell(atoms: "Atoms", table: StructureTable) -> None:
    in_file = np.asarray(atoms.cell.array, dtype=float)
    if table.cell is not None:
        cell = np.array(table.cell)
        if in_file.any() and not np.allclose(in_file, cell, rtol=1e-9, atol=1e-9):
            raise InputError(
                "structure.cell", f"the cell in {table.file}, or none at all", cell.tolist()
            )
        atoms.set_cell(cell)
        atoms.pbc = True
    elif not in_file.any():
        raise InputError(FILE, "a structure with a cell (or add structure.cell)", "no cell")
    elif not atoms.pbc.all():
        raise InputError(FILE, "a structure periodic in all three directions", atoms.pbc.tolist())
    edges = np.linalg.norm(atoms.cell.array, axis=1)
    if not (np.isfinite(edges).all() and abs(atoms.cell.volume) > 1e-6 * edges.prod()):
        field = FILE if table.cell is None else "structure.cell"
        raise InputError(field, "a cell with a volume", atoms.cell.array.tolist())


def _refuse_partial_occupancy(atoms: "Atoms") -> None:
    for site in (atoms.info.get("occupancy") or {}).values():
        if len(site) != 1 or any(abs(fraction - 1.0) > 1e-6 for fraction in site.values()):
            raise InputError(FILE, "every site fully occupied by one element", dict(site))


def relaxed_positions(energy: ParticleEnergy, beta: float) -> np.ndarray:
    """The reference positions (n, 3) moved to the nearest minimum of the energy at fixed cell.

    Limited-memory BFGS (scipy) on the displacements, centre of mass kept; raises ``InputError``
    when a force of more than 1e-4 k_B T over the mean spacing of particles is left.
    """
    from scipy.optimize import minimize

    n = energy.n_particles
    spacing = (energy.cell.volume / n) ** (1.0 / 3.0)

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.from_numpy(flat.reshape(1, n, 3).copy()) * spacing
        value, gradient = energy.displaced(u)
        return beta * value.item(), beta * spacing * gradient.numpy().ravel()

    minimum = minimize(
        value_and_gradient,
        np.zeros(3 * n),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 10_000, "maxfun": 20_000, "ftol": 0.0, "gtol": 1e-7, "maxcor": 30},
    )
    left = float(np.abs(minimum.jac).max())
    if not left < 1e-4:
        remaining = f"a remaining force of {left:.2g} kT per spacing"
        raise InputError("structure.relax", "a structure that relaxes", remaining)
    moved = minimum.x.reshape(n, 3) * spacing
    return energy.reference.numpy() + moved - moved.mean(axis=0)
