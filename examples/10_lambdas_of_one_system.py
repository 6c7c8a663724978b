"""Insertion of an argon atom into dense argon: one OpenMM System, five values of lambda.

Learnt here: `openmm_states` for a System with a parameter, `PotentialReporter` in a simulation of
one's own, `estimate` on what it wrote. Takes a minute of processor time.
"""

import os
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import openmm as mm
from openmm.app import Simulation, Topology

import helmflow as hf

STEPS = 4000 if os.environ.get("SMOKE") == "1" else 40_000
system, pairs = mm.System(), mm.NonbondedForce()
solute = mm.CustomNonbondedForce("4*0.996*lam*(1/s^2-1/s); s=0.5*(1-lam)+(r/0.34)^6")
solute.addGlobalParameter("lam", 1.0)
solute.addInteractionGroup([0], range(1, 64))
system.setDefaultPeriodicBoxVectors(*(1.85 * np.eye(3)))
for force in (pairs, solute):
    force.setNonbondedMethod(force.CutoffPeriodic)
    force.setCutoffDistance(0.75)
    system.addForce(force)
for k in range(64):
    system.addParticle(39.9)
    pairs.addParticle(0.0, 0.34, 0.996 if k else 0.0)
    solute.addParticle()
run = Simulation(Topology(), system, mm.LangevinMiddleIntegrator(180, 5, 0.004))
run.context.setPositions(1.85 / 4 * np.stack(np.indices((4, 4, 4)), -1).reshape(-1, 3))

lambdas, path = [0.0, 0.1, 0.3, 0.6, 1.0], Path(mkdtemp()) / "u.csv"
states = hf.openmm_states(system, [{"lam": lam} for lam in lambdas], 180.0)  # paste from here
for k, lam in enumerate(lambdas):
    run.context.setParameter("lam", lam)
    run.reporters[:] = [hf.PotentialReporter(path, states, 25, state=k)]
    run.step(STEPS)
print(hf.estimate(hf.read_potentials([path])))
