"""Free energy of compressing a fluid in OpenMM: the map that scales the box.

Learnt here: states in boxes of different size, and `VolumeScaling`, a map without any fit; what is
handed over are positions and the two Systems. Takes 15 seconds of processor time.
"""

import os

import numpy as np
import openmm

import helmflow as hf

N, EDGES, KELVIN = 64, (1.60, 1.58), 150.0  # argon, nm
FRAMES = 150 if os.environ.get("SMOKE") == "1" else 1000


def argon(edge):
    system, force = openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors([edge, 0, 0], [0, edge, 0], [0, 0, edge])
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.75)
    for _ in range(N):
        system.addParticle(39.95)
        force.addParticle(0.0, 0.3405, 0.996)
    system.addForce(force)
    return system


def sample(system, edge):
    integrator = openmm.LangevinMiddleIntegrator(KELVIN, 2, 0.005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3) * edge / 4)
    frames = []
    for _ in range(FRAMES + 40):
        integrator.step(50)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return np.array(frames[40:])


# From here on: what to paste.
systems = [argon(edge) for edge in EDGES]
states = [hf.openmm_state(system, KELVIN, platform="Reference") for system in systems]
samples = [sample(system, edge) for system, edge in zip(systems, EDGES, strict=True)]
found = hf.targeted_fep(*states, *samples, map=hf.VolumeScaling(EDGES[1] / EDGES[0], N))
print(f"through the map: {found.mapped}, from A alone {found.works.sides()[0]}")
print(found, "-", found.result.reason)
