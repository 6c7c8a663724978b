"""System files of one's own."""

import math
import tomllib

import numpy as np
import pytest

from helmflow.energies.base import Energy
from helmflow.system import load_system
from helmflow.system.schema import CrystalTable
from helmflow.system.shipped import shipped_folder
from helmflow.tables import parse_table
from helmflow.units import de_broglie_wavelength
from system_files import (
    ALL_IMAGES,
    CIF,
    COPPER,
    FIELD,
    LENNARD_JONES,
    Springs,
    assert_refused,
    copper_sites,
    extxyz,
)


def test_a_file_of_ones_own(write):
    system = load_system(write())
    assert system.name == "mine"
    assert system.n_particles == 32
    assert system.beta == pytest.approx(1 / (300 * 8.617333262145179e-5))
    assert system.temperature == 300.0
    assert system.units.energy == "eV"
    # h / sqrt(2 pi m k T) for copper at 300 K, 0.126 angstrom
    assert system.thermal_wavelength[0] == pytest.approx(0.12644, abs=1e-4)
    assert load_system(str(system.path)).digest == system.digest


def test_beta_and_the_boltzmann_constant_can_be_given(write):
    override = ("temperature = 300.0", "temperature = 300.0\nboltzmann_constant = 8.6e-5")
    assert load_system(write(override)).beta == pytest.approx(1 / (300 * 8.6e-5), rel=1e-14)
    number = ('"de_broglie"', "0.5")
    system = load_system(write(("temperature = 300.0", "beta = 38"), number))
    assert system.beta == 38.0
    assert system.temperature is None
    field = load_system(write(toml=FIELD + "[state]\nbeta = 0.5\n"))
    assert (field.beta, field.n_particles) == (0.5, 24)


def test_digest_depends_on_both_files_and_nothing_else(write):
    digest = load_system(write()).digest
    assert load_system(write()).digest == digest
    assert load_system(write(("copper", "Copper"))).digest != digest
    shifted = extxyz(copper_sites() + 0.1, 7.2 * np.eye(3))
    assert load_system(write(structure=shifted)).digest != digest


def test_cell_beside_a_plain_xyz(write):
    plain = COPPER.split("\n")
    plain[1] = "no cell here"
    cell = "cell = [[7.2, 0, 0], [0, 7.2, 0], [0, 0, 7.2]]"
    system = load_system(write(('"mine.xyz"', f'"mine.xyz"\n{cell}'), structure="\n".join(plain)))
    reference = load_system(write())
    x = reference.reference_positions[None]
    assert system.energy(x).item() == pytest.approx(reference.energy(x).item(), rel=1e-13)


def test_cif(write, tmp_path):
    (tmp_path / "mine.cif").write_text(CIF)
    system = load_system(write(("mine.xyz", "mine.cif"), ALL_IMAGES))
    assert system.n_particles == 4
    np.testing.assert_allclose(system.cell.numpy(), 3.6 * np.eye(3), atol=1e-12)
    per_atom = system.energy(system.reference_positions[None]).item() / 4
    reference = load_system(write())
    expected = reference.energy(reference.reference_positions[None]).item() / 32
    assert per_atom == pytest.approx(expected, rel=1e-9)


def test_masses_in_the_structure_file_count(tmp_path):
    folder = load_system("ice/mw_cubic_8").path.parent
    (tmp_path / "mw_cubic_8.extxyz").write_bytes((folder / "mw_cubic_8.extxyz").read_bytes())
    toml = (folder / "mw_cubic_8.toml").read_text()
    path = tmp_path / "water.toml"
    path.write_text(
        toml.replace("thermal_wavelength = 2.3925", 'thermal_wavelength = "de_broglie"')
    )
    water = de_broglie_wavelength(18.01528, 200.0, "angstrom")
    assert load_system(path).thermal_wavelength == pytest.approx([water] * 8, rel=1e-14)


def test_the_example_in_the_readme_is_complete():
    readme = (shipped_folder() / "README.md").read_text()
    example = tomllib.loads(readme.split("```toml\n")[1].split("```")[0])
    table = parse_table(CrystalTable, example)
    assert set(example) == {f.alias or n for n, f in type(table).model_fields.items()}
    assert set(example["structure"]) == set(type(table.structure).model_fields)
    assert set(example["references"][0]) == set(type(table.references[0]).model_fields)


def test_relaxation_finds_the_perfect_lattice_and_keeps_the_centre_of_mass(write):
    generator = np.random.default_rng(5)
    noise = 0.05 * generator.standard_normal((32, 3))
    noise -= noise.mean(axis=0)
    rough = extxyz(copper_sites() + noise, 7.2 * np.eye(3))
    relax = ('file = "mine.xyz"', 'file = "mine.xyz"\nrelax = true')
    cutoff = ("cutoff = 3.5", 'cutoff = 4.3\nimages = "all"')
    system = load_system(write(relax, cutoff, structure=rough))
    found = system.reference_positions.numpy()
    np.testing.assert_allclose(found, copper_sites(), atol=1e-6)
    gradient = system.energy.energy_and_gradient(system.reference_positions[None])[1]
    assert gradient.abs().max().item() * system.beta < 1e-4
    np.testing.assert_array_equal(system.energy.reference.numpy(), found)


def test_energies_of_ones_own(write):
    springs = 'kind = "springs"\nstiffness = 3\n'
    path = write((LENNARD_JONES, springs))
    system = load_system(path, energies={"springs": Springs})
    assert isinstance(system.energy, Springs)
    assert system.energy.stiffness == 3.0
    assert_refused(path, "potential.kind", "lennard_jones", "'springs'")
    path = write((LENNARD_JONES, springs.replace("stiffness", "stifness")))
    assert_refused(
        path, "potential.stifness", "did you mean 'stiffness'", energies={"springs": Springs}
    )


@pytest.mark.parametrize(
    "values",
    [
        lambda s: s[:, None],
        lambda s: s.sum(),
        lambda s: [float(v) for v in s],
        lambda s: s.detach().numpy(),
        lambda s: s.long(),
    ],
    ids=["column", "sum", "floats", "numpy", "whole"],
)
def test_energies_of_another_kind_are_one_line(values, tmp_path):
    class Own(Energy):
        def forward(self, x):
            return values(x.flatten(1).square().sum(1))

    text = (shipped_folder() / "lattice/phi4_4.toml").read_text()
    path = tmp_path / "own.toml"
    i, j = text.index("[potential]"), text.index("[[references]]")
    path.write_text(text[:i] + '[potential]\nkind = "own"\n' + text[j:])
    assert_refused(path, "potential", energies={"own": Own})


def test_mixed_species_have_their_own_wavelengths(write):
    lines = COPPER.split("\n")
    lines[2:10] = [line.replace("Cu", "Au") for line in lines[2:10]]
    system = load_system(write(structure="\n".join(lines)))
    ratio = system.thermal_wavelength[20] / system.thermal_wavelength[0]
    assert ratio == pytest.approx(math.sqrt(196.966570 / 63.546), rel=1e-4)
    assert system.log_permutations == pytest.approx(math.lgamma(9) + math.lgamma(25))
    assert "Lambda(Au) = " in system.convention
    assert "prod_s N_s!" in system.convention
