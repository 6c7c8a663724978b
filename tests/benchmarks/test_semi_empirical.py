"""From a force field to GFN2-xTB through ASE: N-methylacetamide, BAR without and with a map.

The force field is sampled by OpenMM in seconds, the semi-empirical state by Hamiltonian Monte
Carlo from those samples (about 10 000 evaluations, 90 independent samples: too few to fit a map
that makes the error three times smaller, enough to see that both agree). Needs tblite.
"""

import math
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from ase import Atoms
from openmm import app, unit

import helmflow as hf
from helmflow.energies.ase_molecule import CalculatorEnergy
from helmflow.samplers.leapfrog import LeapfrogChains

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
PDB = Path(__file__).parents[2] / "systems" / "methylacetamide" / "methylacetamide.pdb"
CHAINS, RECORDS = 8, 50


def force_field():
    pdb = app.PDBFile(str(PDB))
    field = app.ForceField("amber14-all.xml")
    return pdb, field.createSystem(pdb.topology, constraints=None)


def force_field_samples(pdb, system, n):
    integrator = openmm.LangevinMiddleIntegrator(300, 5 / unit.picosecond, 0.001)
    integrator.setRandomNumberSeed(1)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(pdb.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    integrator.step(5000)
    frames = []
    for _ in range(n):
        integrator.step(200)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return torch.from_numpy(np.array(frames))


def semi_empirical_state(pdb, beta):
    tblite = pytest.importorskip("tblite.ase")
    symbols = [atom.element.symbol for atom in pdb.topology.atoms()]
    positions = np.array(pdb.positions.value_in_unit(unit.angstrom))
    calculator = tblite.TBLite(method="GFN2-xTB", verbosity=0)
    energy = CalculatorEnergy(
        Atoms(symbols, positions=positions), calculator, length="nm", energy="kJ/mol"
    )
    energy.offset = energy(torch.from_numpy(0.1 * positions)[None]).item()
    return hf.ThermodynamicState(energy, beta)


def test_correction_of_methylacetamide():
    pdb, system = force_field()
    state_a = hf.openmm_state(system, 300.0, platform="Reference")
    state_b = semi_empirical_state(pdb, state_a.beta)
    x = force_field_samples(pdb, system, CHAINS * RECORDS)

    def potential(z):
        energy, gradient = state_b.energy.energy_and_gradient(z)
        return state_b.beta * energy, state_b.beta * gradient

    generator = torch.Generator().manual_seed(1)
    start = x[:: len(x) // CHAINS][:CHAINS]
    chains = LeapfrogChains(start, potential, step=0.001, n_steps=20, generator=generator)
    chains.run(3)
    chains.step = 0.0018
    chains.run(8)
    rows = []
    for _ in range(RECORDS):
        chains.run(1)
        rows.append(chains.x.clone())
    y = torch.stack(rows, dim=1).flatten(0, 1)
    bonds = [(b[0].index, b[1].index) for b in pdb.topology.bonds()]
    found = hf.targeted_fep(state_a, state_b, x, y, map=hf.MoleculeFit(12, bonds))
    print(f"\nwithout {found.plain_same}, with a map {found.mapped}")
    scale = math.hypot(found.mapped.stderr, found.plain_same.stderr)
    assert abs(found.mapped.value - found.plain_same.value) < 2.0 * scale
    assert found.mapped.stderr < found.plain_same.stderr
