import math

import pytest

from helmflow.units import BOLTZMANN, METRES, convert_energy, de_broglie_wavelength


def test_boltzmann_constants_of_codata_2018():
    assert BOLTZMANN["eV"] == pytest.approx(8.617333262145179e-05, rel=1e-14)
    assert BOLTZMANN["kJ/mol"] == pytest.approx(0.00831446261815324, rel=1e-14)
    assert BOLTZMANN["kcal/mol"] == pytest.approx(0.001987204258640832, rel=1e-14)
    assert BOLTZMANN["epsilon"] == 1.0


def test_energies_convert_there_and_back():
    assert convert_energy(1.0, "eV", "kJ/mol") == pytest.approx(96.48533212331, rel=1e-12)
    assert convert_energy(1.0, "kcal/mol", "kJ/mol") == pytest.approx(4.184, rel=1e-14)
    there = convert_energy(0.37, "kcal/mol", "eV")
    assert convert_energy(there, "eV", "kcal/mol") == pytest.approx(0.37, rel=1e-14)
    assert convert_energy(2.0, "epsilon", "epsilon") == 2.0


@pytest.mark.parametrize(("unit", "to"), [("epsilon", "eV"), ("kJ/mol", "epsilon")])
def test_reduced_energies_have_no_physical_size(unit, to):
    with pytest.raises(ValueError, match="no conversion between"):
        convert_energy(1.0, unit, to)


def test_thermal_wavelength_of_argon():
    """Argon at 300 K: 0.15955 angstrom from the constants of 2018."""
    found = de_broglie_wavelength(39.948, 300.0, "angstrom")
    by_hand = 6.62607015e-34 / math.sqrt(
        2 * math.pi * 39.948 * 1.66053906660e-27 * 1.380649e-23 * 300.0
    )
    assert found == pytest.approx(by_hand * 1e10, rel=1e-14)
    assert found == pytest.approx(0.15955, abs=1e-4)


@pytest.mark.parametrize("unit", [unit for unit, metres in METRES.items() if metres is not None])
def test_thermal_wavelength_in_every_unit_of_length(unit):
    angstrom = de_broglie_wavelength(18.0, 200.0, "angstrom") * 1e-10
    assert de_broglie_wavelength(18.0, 200.0, unit) * METRES[unit] == pytest.approx(angstrom)
    assert de_broglie_wavelength(72.0, 200.0, unit) * METRES[unit] == pytest.approx(angstrom / 2)


def test_thermal_wavelength_needs_a_physical_length():
    with pytest.raises(ValueError, match="sigma"):
        de_broglie_wavelength(1.0, 1.0, "sigma")
