"""System files to break, shared by the tests of their loader."""

import numpy as np
import pytest

from helmflow.energies.base import ParticleEnergy
from helmflow.errors import InputError
from helmflow.manifolds.periodic import PeriodicCell
from helmflow.system import load_system

PERFECT = """schema = 1
name = "mine"
kind = "crystal"
summary = "copper"
[units]
length = "angstrom"
energy = "eV"
[structure]
file = "mine.xyz"
[potential]
kind = "lennard_jones"
epsilon = 0.4
sigma = 2.3
cutoff = 3.5
[state]
temperature = 300.0
[convention]
thermal_wavelength = "de_broglie"
"""
FIELD = """schema = 1
name = "field"
kind = "lattice_field"
summary = "phi^4"
[field]
shape = [4, 6]
[potential]
kind = "phi4"
mass_squared = -4.0
coupling = 8.0
"""


def extxyz(positions, cell, species="Cu", pbc="T T T"):
    lattice = " ".join(str(float(value)) for value in np.asarray(cell).ravel())
    header = f'Lattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="{pbc}"'
    rows = [f"{species} " + " ".join(str(float(v)) for v in row) for row in positions]
    return "\n".join([str(len(rows)), header, *rows]) + "\n"


def copper_sites(repeats=2, a=3.6):
    fcc = np.array([(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)]) / 2
    cells = np.stack(np.meshgrid(*[np.arange(repeats)] * 3), axis=-1).reshape(-1, 1, 3)
    return a * (cells + fcc).reshape(-1, 3)


COPPER = extxyz(copper_sites(), 7.2 * np.eye(3))


def assert_refused(path, *parts, **options):
    with pytest.raises(InputError) as refusal:
        load_system(path, **options)
    message = str(refusal.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert message.startswith(f"{parts[0]}: expected ")


CIF = """data_copper
_cell_length_a 3.6
_cell_length_b 3.6
_cell_length_c 3.6
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
_space_group_IT_number 1
loop_
_space_group_symop_operation_xyz
'x, y, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cu1 Cu 0.0 0.0 0.0 1.0
Cu2 Cu 0.0 0.5 0.5 1.0
Cu3 Cu 0.5 0.0 0.5 1.0
Cu4 Cu 0.5 0.5 0.0 1.0
"""
ALL_IMAGES = ("cutoff = 3.5", 'cutoff = 3.5\nimages = "all"')

LENNARD_JONES = PERFECT[PERFECT.index('kind = "lennard_jones"') : PERFECT.index("[state]")]

EMT = 'kind = "ase"\ncalculator = "ase.calculators.emt:EMT"\n'


class Springs(ParticleEnergy):
    def __init__(self, reference, cell_matrix, *, stiffness: "float", power: int = 2):
        super().__init__(reference, PeriodicCell(cell_matrix))
        self.stiffness, self.power = stiffness, power

    def forward(self, x):
        return self.displaced(self.displacements(x))[0]

    def displaced(self, u, *, gradient=True):
        value = 0.5 * self.stiffness * (u**self.power).sum(dim=(1, 2))
        slope = 0.5 * self.power * self.stiffness * u ** (self.power - 1)
        return value, slope if gradient else None
