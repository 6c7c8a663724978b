"""States of one System that differ in lambda, and the reporter that writes their potentials."""

import math

import numpy as np
import openmm
import pytest
from openmm import app, unit

import helmflow as hf
from helmflow.errors import InputError

STIFFNESS, LAMBDAS = 200.0, (0.0, 0.7, 2.0)
EXACT = 3.0 * math.log(3.0)
CENTRES = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]])


def wells():
    """Two particles in wells of stiffness k (1 + lam)."""
    system = openmm.System()
    force = openmm.CustomExternalForce("0.5*k*(1+lam)*((x-x0)^2+(y-y0)^2+(z-z0)^2)")
    force.addGlobalParameter("k", STIFFNESS)
    force.addGlobalParameter("lam", 0.0)
    for name in ("x0", "y0", "z0"):
        force.addPerParticleParameter(name)
    for i, centre in enumerate(CENTRES):
        system.addParticle(12.0)
        force.addParticle(i, centre)
    system.addForce(force)
    return system


def states(**options):
    told = [{"lam": x} for x in LAMBDAS]
    return hf.openmm_states(wells(), told, 300.0, platform="Reference", **options)


def simulation(seed=1):
    topology = app.Topology()
    chain = topology.addChain()
    for _ in CENTRES:
        topology.addAtom("C", app.element.carbon, topology.addResidue("M", chain))
    ps = unit.picosecond
    integrator = openmm.LangevinMiddleIntegrator(300, 5 / ps, 0.004 * ps)
    integrator.setRandomNumberSeed(seed)
    platform = openmm.Platform.getPlatformByName("Reference")
    made = app.Simulation(topology, wells(), integrator, platform)
    made.context.setPositions(CENTRES)
    return made


def test_states_are_those_of_a_context_with_the_parameters():
    made = simulation()
    x = CENTRES + 0.01 * np.arange(6.0).reshape(2, 3)
    for lam, state in zip(LAMBDAS, states(), strict=True):
        made.context.setParameter("lam", lam)
        made.context.setPositions(x)
        energy = made.context.getState(getEnergy=True).getPotentialEnergy()._value
        ours = state.reduced_potential(hf_array(x[None])).item() / state.beta
        assert ours == pytest.approx(energy, rel=1e-12)


def hf_array(x):
    import torch

    return torch.from_numpy(np.asarray(x))


def test_parameters_that_mean_nothing_are_refused():
    for told, expected in (
        ([{"lamda": 1.0}, {}], r"that a force has \(k, lam\)"),
        ([{"lam": math.nan}, {}], "a finite number"),
        ([{"lam": 0.0}, {}], "states 0 and 1 are equal"),
    ):
        with pytest.raises(InputError, match=expected):
            hf.openmm_states(wells(), told, 300.0)


def test_what_a_simulation_has_written_gives_the_exact_answer(tmp_path):
    path, made = tmp_path / "u.csv", simulation()
    made.reporters.append(hf.PotentialReporter(path, states(), 20))
    for lam in LAMBDAS:
        made.context.setParameter("lam", lam)
        made.step(8000)
    data = hf.read_potentials([path])
    assert data.temperature == pytest.approx(300.0)
    assert [len(t) for t in data.potentials] == [400, 400, 400]
    found = hf.estimate(data).result
    assert found.grade in ("A", "C")  # as few as these may fall short of effective samples
    assert abs(found.value - EXACT) < 5.0 * found.stderr
    assert found.stderr < 0.35


def test_a_file_that_a_crash_has_cut_short_is_continued(tmp_path):
    path, made = tmp_path / "u.csv", simulation()
    made.reporters.append(hf.PotentialReporter(path, states(), 10))
    made.step(50)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    again = simulation(seed=2)
    again.reporters.append(hf.PotentialReporter(path, states(), 10))
    again.step(10)
    lines = path.read_text().splitlines()
    assert len(lines) == 2 + 4 + 1
    assert all(line.count(",") == 5 for line in lines[1:])
    with pytest.raises(InputError, match="a new file"):
        hf.PotentialReporter(path, states()[:2], 10)
    with pytest.raises(InputError, match="one temperature"):
        hf.PotentialReporter(path, states()[:1], 10)


def test_a_simulation_between_the_states_is_told(tmp_path):
    made = simulation()
    made.reporters.append(hf.PotentialReporter(tmp_path / "u.csv", states(), 10))
    made.context.setParameter("lam", 0.3)
    with pytest.raises(InputError, match=r"parameters of one state.*lam = 0.3"):
        made.step(10)
