"""Free-energy difference of two force fields in OpenMM, without and with a fitted map.

Learnt here: what to paste into a script that has two Systems and their samples: `openmm_state`,
`targeted_fep`, `MoleculeFit`. Takes 20 seconds of processor time.
"""

import os
from pathlib import Path

import numpy as np
from openmm import LangevinMiddleIntegrator, Platform, app

import helmflow as hf

N = 600 if os.environ.get("SMOKE") == "1" else 4000
PDB = Path(__file__).parents[1] / "systems/alanine_dipeptide/alanine_dipeptide.pdb"
pdb = app.PDBFile(str(PDB))
fields = [app.ForceField(name) for name in ("amber14-all.xml", "amberfb15.xml")]
systems = [field.createSystem(pdb.topology, constraints=None) for field in fields]


def sample(system):
    integrator = LangevinMiddleIntegrator(300, 5, 0.001)
    platform = Platform.getPlatform("Reference")
    run = app.Simulation(pdb.topology, system, integrator, platform)
    run.context.setPositions(pdb.positions)
    run.minimizeEnergy()
    frames = []
    for _ in range(N + 50):
        run.step(100)
        frames.append(run.context.getState(positions=True).getPositions(asNumpy=True)._value)
    return np.array(frames[50:])


# From here on: what to paste.
states = [hf.openmm_state(system, 300.0, platform="Reference") for system in systems]
bonds = [(b[0].index, b[1].index) for b in pdb.topology.bonds()]
found = hf.targeted_fep(*states, *map(sample, systems), map=hf.MoleculeFit(22, bonds))
print(f"without a map: {found.plain}, with a map: {found.mapped}")
print(found, "-", found.result.reason)
