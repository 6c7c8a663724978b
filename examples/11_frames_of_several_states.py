"""Free energies of a spring whose stiffness is a parameter of the Context, from frames in memory.

Learnt here: `openmm_states` and `multistate` on samples that a script already holds, alchemlyb's
table of them, and `estimate` on such a table. Takes 10 seconds of processor time.
"""

import os

import numpy as np
import openmm as mm

import helmflow as hf

N = 400 if os.environ.get("SMOKE") == "1" else 4000
system, force = mm.System(), mm.CustomBondForce("0.5*k*(1+lam)*(r-0.15)^2")
for name, value in (("k", 20_000.0), ("lam", 0.0)):
    force.addGlobalParameter(name, value)
for _ in range(2):
    system.addParticle(12.0)
force.addBond(0, 1, [])
system.addForce(force)


def sample(lam):
    integrator = mm.LangevinMiddleIntegrator(300, 10, 0.002)
    context = mm.Context(system, integrator)
    context.setPositions([[0, 0, 0], [0.15, 0, 0]])
    context.setParameter("lam", lam)
    frames = []
    for _ in range(N + 50):
        integrator.step(50)
        frames.append(context.getState(positions=True).getPositions(asNumpy=True)._value)
    return np.array(frames[50:])


lambdas = [0.0, 1.0, 3.0]
states = hf.openmm_states(system, [{"lam": x} for x in lambdas], 300.0)  # paste from here
found = hf.multistate(states, [sample(x) for x in lambdas])
print(found, "-", found.result.reason)
print(hf.estimate(found.u_nk()), "from its alchemlyb frame")
