"""Free-energy difference of two force fields in OpenMM, without and with a fitted map.

Learnt here: what to paste into a script that has two Systems and their samples: `openmm_state`,
`targeted_fep`, `MoleculeFit`. Takes 20 seconds of processor time.
"""

import os
from pathlib import Path

import numpy as np
from openmm import LangevinMiddleIntegrator, Platform, app, unit

import helmflow as hf

SMOKE = os.environ.get("SMOKE") == "1"
PDB = Path(__file__).parents[1] / "systems/alanine_dipeptide/alanine_dipeptide.pdb"
pdb = app.PDBFile(str(PDB))
systems = [
    app.ForceField(name).createSystem(pdb.topology, constraints=None)
    for name in ("amber14-all.xml", "amberfb15.xml")
]


def sample(system, n):
    integrator = LangevinMiddleIntegrator(300, 5 / unit.picosecond, 1 * unit.femtosecond)
    platform = Platform.getPlatformByName("Reference")
    simulation = app.Simulation(pdb.topology, system, integrator, platform)
    simulation.context.setPositions(pdb.positions)
    simulation.minimizeEnergy()
    frames = []
    for k in range(n + 50):
        simulation.step(100)
        state = simulation.context.getState(positions=True)
        frames += [state.getPositions(asNumpy=True)._value] if k >= 50 else []
    return np.array(frames)


# From here on: what to paste.
states = [hf.openmm_state(system, 300.0, platform="Reference") for system in systems]
samples = [sample(system, 600 if SMOKE else 4000) for system in systems]
bonds = [(b[0].index, b[1].index) for b in pdb.topology.bonds()]
found = hf.targeted_fep(*states, *samples, map=hf.MoleculeFit(len(samples[0][0]), bonds))
print(f"without a map: {found.plain}")
print(f"with a map:    {found.mapped}, variance {found.variance_reduction:.1f} times smaller")
print(found, "-", found.result.reason)
