"""A crystal of your own: one TOML file and one structure file.

Learnt here: what a system file says, how to check an energy before spending time on it, and how a
mistake is reported. The crystal is argon (fcc, Lennard-Jones) at 40 K with its de Broglie
wavelength, so F is the classical Helmholtz free energy. Takes about 5 seconds of processor time.
"""

import os
import tempfile
from pathlib import Path

import torch
from ase.build import bulk

import helmflow as hf

SMOKE = os.environ.get("SMOKE") == "1"

MY_CRYSTAL = """
schema = 1
name = "argon"
kind = "crystal"
summary = "fcc argon at 40 K"
units = { length = "angstrom", energy = "eV" }
structure = { file = "argon.extxyz" }
state = { temperature = 40.0 }
convention = { thermal_wavelength = "de_broglie" }
[potential]
kind = "lennard_jones"
epsilon = 0.0104
sigma = 3.40
cutoff = 8.5
images = "all"
"""

folder = Path(tempfile.mkdtemp())
(bulk("Ar", "fcc", a=5.31, cubic=True) * (2 if SMOKE else 3)).write(folder / "argon.extxyz")
(folder / "argon.toml").write_text(MY_CRYSTAL)

system = hf.load_system(folder / "argon.toml")
print(f"{system.n_particles} atoms, Lambda = {system.thermal_wavelength[0]:.4f} angstrom")

# Finite energies, gradient against finite differences, translations: before anything expensive.
noise = torch.randn(4, system.n_particles, 3, dtype=torch.float64)
for check in hf.check_energy(system.energy, system.reference_positions + 0.1 * noise):
    print(f"  {'ok  ' if check.passed else 'FAIL'} {check.name}: {check.value:.1e}")

result = hf.free_energy(system, seed=0, target_error=2e-3 if SMOKE else 2e-4)
print(result)
print(", ".join(f"{row.value:.6f}({row.stderr:.6f}) {row.unit}" for row in result.other_units))

# A mistake is one line that names the key.
(folder / "argon.toml").write_text(MY_CRYSTAL.replace("epsilon", "epsilom"))
try:
    hf.load_system(folder / "argon.toml")
except hf.InputError as mistake:
    print(f"a typo gives: {mistake}")
