"""Small systems written to a folder and loaded: Lennard-Jones crystals and lattice fields."""

from itertools import product

import numpy as np

from helmflow.system import load_system

FCC = np.array([(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]) / 2

CRYSTAL = """schema = 1
name = "small"
kind = "crystal"
summary = "a Lennard-Jones crystal"
[units]
length = "sigma"
energy = "epsilon"
[structure]
file = "small.extxyz"
[potential]
kind = "lennard_jones"
epsilon = 1.0
sigma = 1.0
cutoff = {cutoff}
shift = {shift}
images = "all"
[state]
temperature = {temperature}
[convention]
thermal_wavelength = 1.0
"""

FIELD = """schema = 1
name = "field"
kind = "lattice_field"
summary = "phi^4"
[field]
shape = [{rows}, {columns}]
[potential]
kind = "phi4"
mass_squared = {mass_squared}
coupling = {coupling}
"""


def fcc_crystal(
    folder,
    repeats=(2, 2, 2),
    *,
    density=1.28,
    temperature=2.0,
    cutoff=2.7,
    shift=True,
    species=None,
):
    """An fcc crystal of ``repeats`` cubes."""
    cells = np.array(list(product(*map(range, repeats))))
    edge = (4 / density) ** (1 / 3)
    positions = edge * (cells[:, None] + FCC).reshape(-1, 3)
    return lennard_jones(
        folder,
        positions,
        edge * np.diag(repeats),
        species,
        temperature=temperature,
        cutoff=cutoff,
        shift=str(shift).lower(),
    )


def lennard_jones(folder, positions, cell, species=None, **values):
    """Any crystal of Lennard-Jones particles."""
    species = species or ["X"] * len(positions)
    lattice = " ".join(f"{value:.17g}" for value in np.asarray(cell).ravel())
    rows = [
        f"{name} " + " ".join(f"{value:.17g}" for value in row)
        for name, row in zip(species, positions, strict=True)
    ]
    header = f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"'
    (folder / "small.extxyz").write_text("\n".join([str(len(rows)), header, *rows]) + "\n")
    file = folder / "small.toml"
    file.write_text(CRYSTAL.format(**values))
    return load_system(file)


def phi4_field(folder, rows, columns, *, mass_squared, coupling):
    """A scalar field on a periodic lattice."""
    file = folder / "field.toml"
    file.write_text(
        FIELD.format(rows=rows, columns=columns, mass_squared=mass_squared, coupling=coupling)
    )
    return load_system(file)
