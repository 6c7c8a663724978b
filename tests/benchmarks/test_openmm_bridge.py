"""What the bridge costs on top of OpenMM, and what a second thread gains.

256 Lennard-Jones particles on OpenMM's CPU platform, one thread per context, energies and forces.
The overhead is processor time per configuration beyond a bare loop of ``setPositions`` and
``getState`` over the same positions; both are timed in short alternating stretches and the median
of the differences counts. All of that is bound to one processor: OpenMM hands every evaluation to
a thread and back, which on an idle machine costs up to three times the evaluation if that thread
wakes up on another processor, for the bare loop or for the bridge as it happens. Two threads are
compared with one by the fastest wall times, on machines with two idle processors.
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openmm
import pytest
import torch

from helmflow.energies.openmm import OpenMMEnergy

N, BATCH, REPEATS = 256, 100, 30
pytestmark = pytest.mark.benchmark


def system():
    edge = 2.8
    made = openmm.System()
    made.setDefaultPeriodicBoxVectors([edge, 0, 0], [0, edge, 0], [0, 0, edge])
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(1.0)
    for _ in range(N):
        made.addParticle(39.9)
        force.addParticle(0.0, 0.34, 1.0)
    made.addForce(force)
    grid = np.stack(np.meshgrid(*[np.arange(7)] * 3), -1).reshape(-1, 3)[:N]
    noise = 0.01 * np.random.default_rng(0).normal(size=(BATCH, N, 3))
    return made, torch.from_numpy(grid * edge / 7 + noise)


@pytest.fixture
def one_processor():
    """Threads made from now on share a processor with this one."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_processor")
def test_overhead_per_configuration():
    made, x = system()
    energy = OpenMMEnergy(made)
    energy.energy_and_gradient(x)
    integrator = openmm.VerletIntegrator(0.001)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(made, integrator, platform, {"Threads": "1"})
    rows = x.numpy()

    def bare():
        for row in rows:
            context.setPositions(row)
            context.getState(energy=True, forces=True)

    bare()
    overheads, costs = [], []
    for _ in range(REPEATS):
        start = time.process_time()
        bare()
        middle = time.process_time()
        energy.energy_and_gradient(x)
        costs.append((middle - start) / BATCH)
        overheads.append((time.process_time() - middle) / BATCH - costs[-1])
    overhead, cost = 1e6 * float(np.median(overheads)), 1e6 * float(np.median(costs))
    print(f"\nOpenMM {cost:.0f} us, bridge +{overhead:.1f} us per configuration (N = {N})")
    assert overhead < 30.0


def test_two_threads():
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor")
    made, x = system()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(2) as two:
        energies = [OpenMMEnergy(made, executor=pool, chunk=25) for pool in (one, two)]
        ratios = []
        for energy in energies:
            energy.energy_and_gradient(x)
        for _ in range(REPEATS):
            seconds = []
            for energy in energies:
                start = time.perf_counter()
                energy.energy_and_gradient(x)
                seconds.append(time.perf_counter() - start)
            ratios.append(seconds[0] / seconds[1])
    # The best of many: another process on the machine only ever makes two threads look worse.
    best, median = max(ratios), float(np.median(ratios))
    print(f"\ntwo threads: {median:.2f} times one (median), {best:.2f} (best)")
    assert best > 1.7
