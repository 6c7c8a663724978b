"""From a force field to GFN2-xTB through ASE: N-methylacetamide, BAR without and with a map.

The force field is sampled by OpenMM in seconds. The semi-empirical state, slow to mix by its own
dynamics, is sampled by Metropolis steps whose proposals are force-field samples through a first
map, fitted to 240 configurations with their forces. About 15 000 evaluations, one minute of
processor time. Needs tblite.
"""

import math
import time
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch
from ase import Atoms
from openmm import app, unit

import helmflow as hf
from helmflow.energies.ase_molecule import CalculatorEnergy
from helmflow.generalised_work import work
from helmflow.samplers.independence import independence_metropolis
from helmflow.samplers.leapfrog import LeapfrogChains
from helmflow.training.map_fit import TwoStates

pytestmark = [pytest.mark.benchmark, pytest.mark.filterwarnings("ignore")]
PDB = Path(__file__).parents[2] / "systems" / "methylacetamide" / "methylacetamide.pdb"
CHAINS, RECORDS, N = 8, 30, 1500


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


def first_samples(state, start):
    """A little Hamiltonian Monte Carlo, all chains at each time: to fit a first map to."""

    def potential(z):
        energy, gradient = state.energy.energy_and_gradient(z)
        return state.beta * energy, state.beta * gradient

    generator = torch.Generator().manual_seed(1)
    chains = LeapfrogChains(start, potential, step=0.001, n_steps=20, generator=generator)
    chains.run(3)
    chains.step = 0.0018
    chains.run(8)
    rows = []
    for _ in range(RECORDS):
        chains.run(1)
        rows.append(chains.x)
    return torch.cat(rows)


def metropolis(proposals, u_a, u_b, bijector):
    """A chain of the semi-empirical state: force-field samples through a map, or a repeat."""
    with torch.no_grad():
        w = work(proposals, u_a, u_b, bijector)
        chain = independence_metropolis(-w, torch.Generator().manual_seed(2))
        print(f"\nacceptance {chain.acceptance:.2f}, tau {chain.tau_acc:.1f}")
        return bijector.forward(proposals)[0][chain.index]


def test_correction_of_methylacetamide():
    clock = time.process_time()
    pdb, system = force_field()
    state_a = hf.openmm_state(system, 300.0, platform="Reference")
    state_b = semi_empirical_state(pdb, state_a.beta)
    u_a, u_b = state_a.reduced_potential, state_b.reduced_potential
    n = CHAINS * RECORDS
    few, proposals, x = torch.split(force_field_samples(pdb, system, n + 2 * N), [n, N, N])
    y = first_samples(state_b, few[:: n // CHAINS][:CHAINS])
    bonds = [(b[0].index, b[1].index) for b in pdb.topology.bonds()]
    fit, cut = hf.MoleculeFit(12, bonds), round(0.8 * n)
    first = fit.fit(TwoStates(u_a, u_b, few[:cut], y[:cut], few[cut:], y[cut:]), torch.Generator())
    y = metropolis(proposals, u_a, u_b, first)
    found = hf.targeted_fep(state_a, state_b, x, y, map=fit)
    print(f"without {found.plain_same}, with a map {found.mapped}, g {found.plain_works.g}")
    print(f"stderr / {found.plain_same.stderr / found.mapped.stderr:.2f}, {found.result.grade}")
    for row in found.result.observables:
        print(f"{row.name} {row.value:.2f} +- {row.stderr:.2f}")
    print(f"{time.process_time() - clock:.0f} s of processor time")
    scale = math.hypot(found.mapped.stderr, found.plain_same.stderr)
    assert abs(found.mapped.value - found.plain_same.value) < 2.0 * scale
    assert found.plain_same.stderr > 3.0 * found.mapped.stderr
