"""Every way a system file can be wrong gives one line that names the key."""

from pathlib import Path

import numpy as np
import pytest

from helmflow.system import load_system
from system_files import (
    ALL_IMAGES,
    CIF,
    COPPER,
    EMT,
    FIELD,
    LENNARD_JONES,
    Springs,
    assert_refused,
    copper_sites,
    extxyz,
)

MISTAKES = {
    "misspelt table": (("[units]", "[unts]"), "unts", "did you mean 'units'"),
    "misspelt key": (("length =", "lenght ="), "units.lenght", "did you mean 'length'"),
    "unknown key": (("schema = 1", "schema = 1\nseed = 3"), "seed", "one of schema, kind, name"),
    "misspelt argument": (("epsilon", "epsilom"), "potential.epsilom", "did you mean 'epsilon'"),
    "argument of another potential": (("cutoff", "lambda_ = 2\ncutoff"), "potential.lambda_"),
    "supplied argument": (("cutoff", "reference = 2\ncutoff"), "potential.reference"),
    "missing argument": (("sigma = 2.3\n", ""), "potential.sigma", "got nothing"),
    "missing table": (('[structure]\nfile = "mine.xyz"', ""), "structure", "got nothing"),
    "missing name": (('name = "mine"\n', ""), "name", "got nothing"),
    "schema of the future": (("schema = 1", "schema = 2"), "schema", "1", "2"),
    "name that is no file name": (('"mine"', '"../b"'), "name", "'../b'"),
    "text for a number": (("300.0", '"300 K"'), "state.temperature", "a number", "'300 K'"),
    "bool for a number": (("0.4", "true"), "potential.epsilon", "a number", "True"),
    "text for an argument": (("2.3", '"2.3"'), "potential.sigma", "a number", "'2.3'"),
    "number for a text": (('"copper"', "29"), "summary", "a text in quotes", "29"),
    "value for a table": (("[units]\nlength", "units = 3\n[x]\nlength"), "x"),
    "nan": (("2.3", "nan"), "potential.sigma", "finite", "nan"),
    "unknown unit of length": (('"angstrom"', '"angstroms"'), "units.length", "'angstrom'"),
    "unknown unit of energy": (('"eV"', '"ev"'), "units.energy", "did you mean 'eV'"),
    "mixed units": (('"angstrom"', '"sigma"'), "units", "reduced units for both"),
    "negative temperature": (("300.0", "-1.0"), "state.temperature", "greater than 0", "-1"),
    "zero temperature": (("300.0", "0.0"), "state.temperature", "greater than 0", "0"),
    "infinite temperature": (("300.0", "inf"), "state.temperature", "finite", "inf"),
    "no temperature": (("temperature = 300.0", ""), "state", "either temperature or beta"),
    "temperature and beta": (("300.0", "300.0\nbeta = 1.0"), "state", "either"),
    "constant without use": (
        ("temperature = 300.0", "beta = 1.0\nboltzmann_constant = 1.0"),
        "state",
        "only together with temperature",
    ),
    "unknown wavelength": (("de_broglie", "debroglie"), "convention.thermal_wavelength"),
    "infinite wavelength": (('"de_broglie"', "inf"), "convention.thermal_wavelength", "positive"),
    "list of wavelengths": (('"de_broglie"', "[1.0]"), "convention.thermal_wavelength", "[1.0]"),
    "negative wavelength": (('"de_broglie"', "-1.0"), "convention.thermal_wavelength", "positive"),
    "wavelength without temperature": (
        ("temperature = 300.0", "beta = 38.0"),
        "convention.thermal_wavelength",
        "no temperature",
    ),
    "unknown kind": (('"crystal"', '"crystl"'), "kind", "did you mean 'crystal'"),
    "missing kind": (('kind = "crystal"\n', ""), "kind", "got nothing"),
    "unknown potential": (
        ('"lennard_jones"', '"lennard_jone"'),
        "potential.kind",
        "did you mean 'lennard_jones'",
    ),
    "missing potential": (('kind = "lennard_jones"', ""), "potential.kind", "got nothing"),
    "missing structure": (('"mine.xyz"', '"yours.xyz"'), "structure.file", "exists", "yours.xyz"),
    "cutoff over half the cell": (("3.5", "3.7"), "potential.images", "exceeds half the cell"),
    "unknown images": (("3.5", '3.5\nimages = "al"'), "potential.images", "'al'"),
    "negative epsilon": (("0.4", "-0.4"), "potential.epsilon"),
    "cell of another size": (
        ('"mine.xyz"', '"mine.xyz"\ncell = [[7.3, 0, 0], [0, 7.2, 0], [0, 0, 7.2]]'),
        "structure.cell",
        "the cell in mine.xyz",
    ),
    "cell of another shape": (
        ('"mine.xyz"', '"mine.xyz"\ncell = [7.2, 7.2, 7.2]'),
        "structure.cell[0]",
        "a list",
    ),
    "reference without a source": (
        (
            "[state]",
            "[[references]]\nquantity = 'helmholtz_free_energy'\nvalue = 1\nper = 'particle'\n"
            "[state]",
        ),
        "references[0].source",
        "got nothing",
    ),
    "misspelt key of a reference": (
        ("[state]", "[[references]]\nvalu = 1\n[state]"),
        "references[0].valu",
        "did you mean 'value'",
    ),
    "field of a lattice in a crystal": (
        ("[state]", "[field]\nshape = [2, 2]\n[state]"),
        "field",
        "one of",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_crystal(write, mistake):
    replacement, *parts = MISTAKES[mistake]
    assert_refused(write(replacement), *parts)


FIELD_MISTAKES = {
    "one edge": (("[4, 6]", "[4]"), "field.shape[1]", "got nothing"),
    "three edges": (("[4, 6]", "[4, 6, 8]"), "field.shape", "at most 2 entries"),
    "fraction": (("[4, 6]", "[4, 6.5]"), "field.shape[1]", "a whole number", "6.5"),
    "too small": (("[4, 6]", "[4, 1]"), "field.shape[1]", "not less than 2"),
    "misspelt": (("mass_squared", "mass_square"), "potential.mass_square", "'mass_squared'"),
    "unstable": (("8.0", "-8.0"), "potential.coupling", ">= 0"),
    "potential of particles": (('"phi4"', '"lennard_jones"'), "potential.kind", "cell_matrix"),
    "units": (("[field]", "[units]\nlength = 'nm'\nenergy = 'eV'\n[field]"), "units"),
}


@pytest.mark.parametrize("mistake", FIELD_MISTAKES)
def test_mistakes_in_a_lattice_field(write, mistake):
    replacement, *parts = FIELD_MISTAKES[mistake]
    assert_refused(write(replacement, toml=FIELD), *parts)


def test_a_field_theory_is_no_crystal(write):
    phi4 = 'kind = "phi4"\nmass_squared = 1.0\ncoupling = 1.0\n'
    assert_refused(write((LENNARD_JONES, phi4)), "potential.kind", "'phi4', which needs shape")


def with_row(row):
    lines = COPPER.split("\n")
    lines[5] = row
    return "\n".join(lines)


def overlapping(distance):
    sites = copper_sites()
    sites[7] = sites[0] + [7.2 - distance, 0, 0]
    return extxyz(sites, 7.2 * np.eye(3))


BAD_STRUCTURES = {
    "nan": (with_row("Cu nan 0.0 1.8"), "finite positions"),
    "infinity": (with_row("Cu inf 0.0 1.8"), "finite positions"),
    "text": (with_row("Cu zero 0.0 1.8"), "ASE can read"),
    "short row": (with_row("Cu 0.0 1.8"), "ASE can read"),
    "fewer atoms than said": (COPPER.replace("32\n", "33\n", 1), "ASE can read"),
    "unknown element": (with_row("Qq 0.0 1.8 1.8"), "ASE can read"),
    "empty file": ("", "ASE can read"),
    "not a structure": ("Dear all,\nplease find enclosed", "ASE can read"),
    "no cell": (COPPER.replace('Lattice="', 'Lettuce="'), "a cell (or add structure.cell)"),
    "no atoms": (extxyz([], 7.2 * np.eye(3)), ""),
    "slab": (extxyz(copper_sites(), 7.2 * np.eye(3), pbc="T T F"), "periodic in all three"),
    "flat cell": (extxyz(copper_sites(), [[7, 0, 0], [0, 7, 0], [7, 7, 0]]), "a volume"),
    "nan cell": (COPPER.replace("7.2", "nan", 1), ""),
    "coincident atoms": (overlapping(0.0), "apart"),
    "coincident atoms across the boundary": (overlapping(1e-3), "apart"),
}


@pytest.mark.parametrize("mistake", BAD_STRUCTURES)
def test_mistakes_in_a_structure(write, mistake):
    structure, *parts = BAD_STRUCTURES[mistake]
    assert_refused(write(structure=structure), "structure.file", *parts)


BAD_CIF = {
    "no cell": CIF.replace("_cell_length_a 3.6\n", ""),
    "no coordinates": CIF.replace("_atom_site_fract_x\n", ""),
    "truncated": CIF[:200],
    "garbage": "\x00\x01 not a cif",
    "partial occupancy": CIF.replace("0.5 0.5 0.0 1.0", "0.5 0.5 0.0 0.5"),
    "two elements on a site": CIF + "Ag4 Ag 0.5 0.5 0.0 0.5\n",
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("mistake", BAD_CIF)
def test_mistakes_in_a_cif(write, tmp_path, mistake):
    (tmp_path / "mine.cif").write_text(BAD_CIF[mistake])
    path = write(("mine.xyz", "mine.cif"), ALL_IMAGES)
    assert_refused(path, "structure.file")


@pytest.mark.parametrize(
    ("potential", "parts"),
    [
        (EMT.replace("emt:EMT", "emt:EMTT"), ("potential.calculator", "did you mean 'EMT'")),
        (EMT.replace("emt:EMT", "etm:EMT"), ("potential.calculator", "ase.calculators.etm")),
        (EMT + "arguments = {cutof = 1}\n", ("potential.arguments.cutof", "'cutof'")),
        (EMT + "arguments = 3\n", ("potential.arguments", "a table")),
        (EMT + "argument = {}\n", ("potential.argument", "did you mean 'arguments'")),
        (EMT + 'images = "all"\n', ("potential.images", "one of calculator, arguments")),
    ],
)
def test_mistakes_in_the_calculator(write, potential, parts):
    assert_refused(write((LENNARD_JONES, potential)), *parts)


def test_calculators_refuse_other_units_and_elements_they_do_not_know(write):
    assert load_system(write((LENNARD_JONES, EMT))).energy.evaluations == 1
    nanometres = write((LENNARD_JONES, EMT), ('"angstrom"', '"nm"'))
    assert_refused(nanometres, "units", "'angstrom' and 'eV'")
    sodium = extxyz(copper_sites(), 7.2 * np.eye(3), species="Na")
    assert_refused(write((LENNARD_JONES, EMT), structure=sodium), "potential", "EMT failed")


def test_atoms_without_a_mass_have_no_thermal_wavelength(write):
    nameless = extxyz(copper_sites(), 7.2 * np.eye(3), species="X")
    field = "convention.thermal_wavelength"
    assert_refused(write(structure=nameless), field, "atoms X have no mass")
    reduced = [('"angstrom"', '"sigma"'), ('"eV"', '"epsilon"'), ("300.0", "1.0")]
    assert_refused(write(*reduced), field, "units.length is sigma")


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("ice/mw_cubc_64", "did you mean 'ice/mw_cubic_64'"),
        ("mw_cubic_64", "did you mean 'ice/mw_cubic_64'"),
        ("systems/ice/mw_cubic_46.toml", "did you mean 'ice/mw_cubic_64'"),
        ("nowhere.toml", "nowhere.toml"),
        ("", "a shipped name"),
        (Path("/"), "a shipped name"),
    ],
)
def test_systems_that_do_not_exist(given, hint):
    assert_refused(given, "system", hint)


@pytest.mark.parametrize("contents", [b"schema = = 1", b"\xff\xfe", b"schema = 1\nschema = 1"])
def test_files_that_are_not_toml(tmp_path, contents):
    path = tmp_path / "mine.toml"
    path.write_bytes(contents)
    assert_refused(path, "system", "a valid TOML file", "mine.toml")


def test_energies_that_cannot_be_used_are_refused_at_once(write):
    def refused(springs, *parts):
        path = write((LENNARD_JONES, springs), ('xyz"', 'xyz"\nrelax = true'))
        assert_refused(path, *parts, energies={"springs": Springs})

    singular = 'kind = "springs"\nstiffness = 3\npower = -1\n'
    refused(singular, "potential", "a finite energy of the structure")
    downhill = 'kind = "springs"\nstiffness = 1e300\npower = 1\n'
    refused(downhill, "structure.relax", "a structure that relaxes")
