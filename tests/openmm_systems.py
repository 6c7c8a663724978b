"""Small OpenMM Systems for tests."""

import numpy as np
import openmm
import torch
from openmm import app, unit


def argon(n_side=3, spacing=0.4, cutoff=0.5, epsilon=1.0, sigma=0.34):
    """Periodic Lennard-Jones atoms, shifted at the cutoff, and their lattice positions (n, 3)."""
    n, edge = n_side**3, n_side * spacing
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors([edge, 0, 0], [0, edge, 0], [0, 0, edge])
    six = (sigma / cutoff) ** 6
    text = f"4*{epsilon}*(({sigma}/r)^12-({sigma}/r)^6-{six**2 - six!r})"
    force = openmm.CustomNonbondedForce(text)
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(cutoff)
    for _ in range(n):
        system.addParticle(39.9)
        force.addParticle([])
    system.addForce(force)
    grid = np.stack(np.meshgrid(*[np.arange(n_side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return system, torch.tensor(grid * spacing, dtype=torch.float64)


def oscillators(stiffness, centres):
    """Independent harmonic wells ``k |x - c|^2 / 2`` in kJ/mol and nm, not periodic."""
    system = openmm.System()
    force = openmm.CustomExternalForce("0.5*k*((x-a)^2+(y-b)^2+(z-c)^2)")
    for name in ("k", "a", "b", "c"):
        force.addPerParticleParameter(name)
    for i, (k, centre) in enumerate(zip(stiffness, centres, strict=True)):
        system.addParticle(12.0)
        force.addParticle(i, [k, *centre])
    system.addForce(force)
    return system


def four_site_water(*, rigid=False):
    """One TIP4P-Ew molecule (virtual site) without constraints, its topology and positions."""
    field = app.ForceField("tip4pew.xml")
    topology = app.Topology()
    residue = topology.addResidue("HOH", topology.addChain())
    oxygen = topology.addAtom("O", app.element.oxygen, residue)
    for name in ("H1", "H2"):
        topology.addBond(oxygen, topology.addAtom(name, app.element.hydrogen, residue))
    start = np.array([[0.0, 0.0, 0.0], [0.09572, 0.0, 0.0], [-0.0239987, 0.0926627, 0.0]])
    modeller = app.Modeller(topology, start * unit.nanometer)
    modeller.addExtraParticles(field)
    system = field.createSystem(modeller.topology, rigidWater=rigid, constraints=None)
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return system, modeller.topology, torch.tensor(positions, dtype=torch.float64)
