"""Free energy of compressing a fluid in OpenMM: the map that scales the box.

Learnt here: states in boxes of different size, and `VolumeScaling`, a map without any fit; what is
handed over are positions and the two Systems. Takes 15 seconds of processor time.
"""

import os

import numpy as np
import openmm
from openmm import unit

import helmflow as hf

SMOKE = os.environ.get("SMOKE") == "1"
N, EDGES, KELVIN = 64, (1.60, 1.58), 150.0  # argon, nm


def argon(edge):
    system = openmm.System()
    system.setDefaultPeriodicBoxVectors([edge, 0, 0], [0, edge, 0], [0, 0, edge])
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.75)
    for _ in range(N):
        system.addParticle(39.95)
        force.addParticle(0.0, 0.3405, 0.996)
    system.addForce(force)
    return system


def sample(system, edge, n):
    integrator = openmm.LangevinMiddleIntegrator(KELVIN, 2 / unit.picosecond, 0.005)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    sites = np.stack(np.meshgrid(*[np.arange(4)] * 3), -1).reshape(-1, 3)
    context.setPositions(sites * edge / 4)
    integrator.step(2000)
    frames = []
    for _ in range(n):
        integrator.step(50)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return np.array(frames)


# From here on: what to paste.
systems = [argon(edge) for edge in EDGES]
states = [hf.openmm_state(system, KELVIN, platform="Reference") for system in systems]
n = 150 if SMOKE else 1000
samples = [sample(system, edge, n) for system, edge in zip(systems, EDGES, strict=True)]
found = hf.targeted_fep(*states, *samples, map=hf.VolumeScaling(EDGES[1] / EDGES[0], N))
print(f"through the map: {found.mapped}, from A alone {found.works.sides()[0]}")
print(found, "-", found.result.reason)
