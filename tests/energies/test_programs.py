"""What a file may run: listed calculators, and what its user allows."""

import sys

import pytest
from ase.build import bulk

from helmflow.energies import programs
from helmflow.energies.ase import calculator_energy
from helmflow.energies.openmm import read_openmm_system
from helmflow.errors import InputError

OWN = """
import subprocess
from ase.calculators.emt import EMT
from os import system
open({ran!r}, "w").close()

class Mine(EMT):
    pass

def build():
    return Mine()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's that leaves a file when it is imported."""
    ran = tmp_path / "ran"
    (tmp_path / "own_potential.py").write_text(OWN.format(ran=str(ran)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(programs.VARIABLE, "")
    yield ran
    sys.modules.pop("own_potential", None)


def energy_of(name):
    return calculator_energy(bulk("Cu", cubic=True), calculator=name)


@pytest.mark.parametrize(
    "name",
    [
        "subprocess:check_output",
        "os:system",
        "runpy:run_path",
        "own_potential:Mine",
        "ase.calculators.vasp:Vasp",  # starts what its argument `command` says
        "ase.calculators.lammpslib:LAMMPSlib",  # has a command `shell`
        "ase.calculators.calculator:all_properties",
        "ase.io:read",
        "numpy:load",
        "torch:load",
    ],
)
def test_a_program_that_nobody_allowed_is_not_even_imported(own, name):
    with pytest.raises(InputError, match=r"^potential.calculator: expected a listed calculator"):
        energy_of(name)
    assert not own.exists()


@pytest.mark.parametrize("name", ["own_potential:Mine", "own_potential:build"])
def test_what_the_user_allows_runs(own, name):
    programs.allow(["own_potential"])
    assert energy_of(name).evaluations == 0
    assert own.exists()


@pytest.mark.parametrize("name", ["own_potential:system", "own_potential:print"])
def test_what_an_allowed_module_has_imported_is_no_calculator(own, name):
    programs.allow(["own_potential"])
    with pytest.raises(InputError, match=r"^potential.calculator"):
        energy_of(name)


def test_python_itself_cannot_be_allowed(own):
    programs.allow(["subprocess"])
    with pytest.raises(InputError, match="a module of Python itself"):
        energy_of("subprocess:check_output")


def test_names_are_compared_as_whole_words(own):
    programs.allow(["own"])
    with pytest.raises(InputError, match="--allow own_potential"):
        energy_of("own_potential:Mine")


@pytest.mark.parametrize("kind", ["PythonForce", "Python&#70;orce"])
def test_a_pickle_in_an_openmm_file_is_not_read(tmp_path, kind):
    path = tmp_path / "system.xml"
    force = f'<Force function="80049" name="x" type="{kind}" version="2"/>'
    path.write_text(f'<System type="System" version="1"><Forces>{force}</Forces></System>')
    with pytest.raises(InputError, match="without PythonForce"):
        read_openmm_system(path)
