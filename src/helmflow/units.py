"""Physical constants (CODATA 2018) in the units a system file may use; units end at `thermo`."""

import math
from collections.abc import Mapping
from types import MappingProxyType

JOULE_PER_EV = 1.602176634e-19
AVOGADRO = 6.02214076e23
PLANCK = 6.62607015e-34
ATOMIC_MASS = 1.66053906660e-27
BOLTZMANN_JOULE = 1.380649e-23

BOLTZMANN: Mapping[str, float] = MappingProxyType(
    {
        "kcal/mol": BOLTZMANN_JOULE * AVOGADRO / 4184.0,
        "kJ/mol": BOLTZMANN_JOULE * AVOGADRO / 1000.0,
        "eV": BOLTZMANN_JOULE / JOULE_PER_EV,
        "epsilon": 1.0,
    }
)
"""Boltzmann constant per kelvin in each unit of energy; 1 in reduced units, where temperature is
k_B T / epsilon. The calorie is the thermochemical one, 4.184 J."""

METRES: Mapping[str, float | None] = MappingProxyType(
    {"angstrom": 1e-10, "nm": 1e-9, "bohr": 5.29177210903e-11, "sigma": None}
)
"""Each unit of length in metres; None for the reduced unit sigma."""


def convert_energy(value: float, unit: str, to: str) -> float:
    """An energy expressed in another unit, both physical keys of `BOLTZMANN`.

    Raises ValueError for ``epsilon``, which has no physical size.
    """
    if "epsilon" in (unit, to) and unit != to:
        raise ValueError(f"no conversion between {unit} and {to}")
    return value * BOLTZMANN[to] / BOLTZMANN[unit]


def de_broglie_wavelength(mass: float, temperature: float, length: str) -> float:
    """Thermal wavelength of a particle.

    Lambda = h / sqrt(2 pi m k_B T), with the mass in unified atomic mass units (dalton), the
    temperature in kelvin and the result in the unit ``length``, a physical key of `METRES`.
    Raises ValueError for ``sigma``, which has no physical size.
    """
    metres = METRES[length]
    if metres is None:
        raise ValueError(f"the thermal wavelength in {length} needs a physical unit of length")
    thermal_momentum = math.sqrt(
        2.0 * math.pi * mass * ATOMIC_MASS * BOLTZMANN_JOULE * temperature
    )
    return PLANCK / thermal_momentum / metres
