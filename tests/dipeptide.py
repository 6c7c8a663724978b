"""Alanine dipeptide in two force fields, sampled for a moment."""

from pathlib import Path

import mdtraj
import numpy as np
import openmm
import torch
from openmm import app, unit

from helmflow.energies.openmm import OpenMMEnergy
from helmflow.thermo import ThermodynamicState
from helmflow.units import BOLTZMANN

PDB = Path(__file__).parents[1] / "systems" / "alanine_dipeptide" / "alanine_dipeptide.pdb"
FIELDS = ("amber14-all.xml", "amberfb15.xml")
KT = BOLTZMANN["kJ/mol"] * 300.0


def systems():
    topology = app.PDBFile(str(PDB)).topology
    return [app.ForceField(name).createSystem(topology, constraints=None) for name in FIELDS]


def states(**options):
    made = [OpenMMEnergy(system, platform="Reference", **options) for system in systems()]
    return [ThermodynamicState(energy, 1.0 / KT) for energy in made]


def bonds():
    return [(b[0].index, b[1].index) for b in mdtraj.load_topology(str(PDB)).bonds]


def sample(system, n, *, steps, seed):
    """n frames (n, 22, 3) in nm, ``steps`` femtoseconds apart, after 5 ps."""
    pdb = app.PDBFile(str(PDB))
    integrator = openmm.LangevinMiddleIntegrator(
        300 * unit.kelvin, 5 / unit.picosecond, 1 * unit.femtosecond
    )
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, integrator, platform)
    context.setPositions(pdb.positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    context.setVelocitiesToTemperature(300, seed)
    integrator.step(5000)
    frames = []
    for _ in range(n):
        integrator.step(steps)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return torch.from_numpy(np.array(frames))


def samples(n, *, steps=100, seed=1):
    return [sample(s, n, steps=steps, seed=seed + k) for k, s in enumerate(systems())]
