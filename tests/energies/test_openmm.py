import multiprocessing
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import openmm
import pytest
import torch

from helmflow.doctor import check_energy
from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.openmm import OpenMMEnergy, read_openmm_system
from helmflow.energies.openmm_boxes import reduced_box
from helmflow.errors import EnergyError, InputError
from openmm_systems import argon, four_site_water, oscillators


def shaken(x, n=4, width=0.01, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return x + width * torch.randn(n, *x.shape, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def lennard_jones():
    system, x = argon()
    return OpenMMEnergy(system, platform="Reference"), x


def test_agrees_with_the_native_lennard_jones_energy(lennard_jones):
    energy, sites = lennard_jones
    native = LennardJones(
        sites, torch.from_numpy(energy.box), epsilon=1.0, sigma=0.34, cutoff=0.5, images="all"
    )
    x = shaken(sites)
    value, gradient = energy.energy_and_gradient(x)
    expected, slope = native.energy_and_gradient(x)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    slope_of_moving = gradient - gradient.mean(1, keepdim=True)
    torch.testing.assert_close(slope_of_moving, slope, rtol=1e-8, atol=1e-7)


def test_finite_differences_and_batches(lennard_jones):
    energy, sites = lennard_jones
    assert [check.name for check in check_energy(energy, shaken(sites)) if not check.passed] == []


def test_cpu_platform_agrees_to_single_precision():
    system, sites = argon()
    x = shaken(sites)
    fast, exact = OpenMMEnergy(system)(x), OpenMMEnergy(system, platform="Reference")(x)
    torch.testing.assert_close(fast, exact, rtol=1e-5, atol=1e-3)


def test_backward_uses_the_forces_of_the_forward_pass(lennard_jones):
    energy, sites = lennard_jones
    x = shaken(sites, n=2).requires_grad_()
    before = energy.n_evaluations
    (energy(x) * torch.tensor([1.0, -2.0], dtype=torch.float64)).sum().backward()
    assert energy.n_evaluations == before + 2
    _, gradient = energy.energy_and_gradient(x.detach())
    torch.testing.assert_close(x.grad, gradient * torch.tensor([1.0, -2.0])[:, None, None])


def test_a_second_derivative_is_refused(lennard_jones):
    energy, sites = lennard_jones
    x = shaken(sites, n=1).requires_grad_()
    (slope,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        slope.square().sum().backward()


def test_boxes_of_every_sample(lennard_jones):
    energy, sites = lennard_jones
    x = torch.stack([sites, 1.01 * sites, sites])
    boxes = np.stack([energy.box, 1.01 * energy.box, energy.box])
    value, slope = energy.energy_and_gradient(x, boxes)
    assert value[0] == value[2]
    assert value[0] != value[1]
    # the box of a call is forgotten with it
    torch.testing.assert_close(energy(x)[0], value[0])
    assert torch.isfinite(slope).all()


def test_a_slanted_box_is_reduced():
    system, sites = argon()
    energy = OpenMMEnergy(system, platform="Reference")
    slanted = energy.box + 0.0
    slanted[2] += slanted[1] + 2.0 * slanted[0]
    torch.testing.assert_close(energy(sites[None], slanted), energy(sites[None]))
    np.testing.assert_allclose(reduced_box(slanted), energy.box, atol=1e-12)
    with pytest.raises(InputError, match="boxes: expected vectors a along x"):
        energy(sites[None], energy.box[[1, 0, 2]])


def test_impossible_configurations_are_infinite_and_counted(lennard_jones):
    energy, sites = lennard_jones
    x = shaken(sites, n=4)
    x[0, 0, 0] = float("nan")
    x[1, 1] = x[1, 0]
    x[2, 3, 1] = float("inf")
    before = energy.n_infinite
    value, slope = energy.energy_and_gradient(x)
    assert torch.isposinf(value[:3]).all()
    assert torch.isfinite(value[3])
    assert not slope[:3].any()
    assert slope[3].any()
    assert energy.n_infinite == before + 3


def test_cpu_platform_survives_nan_as_well():
    system, sites = argon()
    energy = OpenMMEnergy(system)
    x = shaken(sites, n=2)
    x[0, 0, 0] = float("nan")
    x[1, 1] = x[1, 0]
    assert torch.isposinf(energy(x)).all()
    torch.testing.assert_close(energy(sites[None]), OpenMMEnergy(system)(sites[None]))


def test_close_configurations_never_share_a_value(lennard_jones):
    energy, sites = lennard_jones
    x = shaken(sites, n=1).repeat(2, 1, 1)
    x[1, 5, 2] += 1e-9
    assert energy(x).unique().numel() == 2


def test_virtual_sites_follow_their_parents():
    system, _, x = four_site_water()
    energy = OpenMMEnergy(system, platform="Reference")
    stale = x.clone()
    stale[3] += 0.05
    torch.testing.assert_close(energy(stale[None]), energy(x[None]), rtol=0, atol=1e-9)
    _, slope = energy.energy_and_gradient(shaken(x, n=3))
    assert not slope[:, 3].any()  # redistributed to the parents
    assert [c.name for c in check_energy(energy, shaken(x, n=3)) if not c.passed] == []
    assert energy.masses.tolist().count(0.0) == 1


def test_lattice_sums_leave_no_force_on_a_virtual_site():
    system, _, x = four_site_water()
    system.setDefaultPeriodicBoxVectors([2, 0, 0], [0, 2, 0], [0, 0, 2])
    (nonbonded,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    nonbonded.setNonbondedMethod(openmm.NonbondedForce.PME)
    nonbonded.setCutoffDistance(0.9)
    energy = OpenMMEnergy(system, platform="Reference")
    assert not energy.energy_and_gradient(shaken(x, n=3))[1][:, 3].any()
    assert [c.name for c in check_energy(energy, shaken(x, n=3)) if not c.passed] == []


def test_constraints_are_named_in_order():
    system = four_site_water(rigid=True)[0]
    np.testing.assert_allclose(
        OpenMMEnergy(system).constraints,
        [[0, 1, 0.09572], [0, 2, 0.09572], [1, 2, 0.15139]],
        atol=1e-5,
    )


def test_barostats_and_thermostats_have_no_energy():
    system, sites = argon()
    plain = OpenMMEnergy(system, platform="Reference")(sites[None])
    system.addForce(openmm.MonteCarloBarostat(1.0, 300.0))
    system.addForce(openmm.AndersenThermostat(300.0, 1.0))
    system.addForce(openmm.CMMotionRemover())
    energy = OpenMMEnergy(system, platform="Reference")
    assert energy.ignored == ("AndersenThermostat", "CMMotionRemover", "MonteCarloBarostat")
    torch.testing.assert_close(energy(sites[None]), plain)
    assert system.getNumForces() == 4  # the user's own is left alone


def test_threads_have_contexts_of_their_own():
    system, sites = argon()
    x = shaken(sites, n=23)
    alone = OpenMMEnergy(system, platform="Reference")
    with ThreadPoolExecutor(2) as pool:
        together = OpenMMEnergy(system, platform="Reference", executor=pool, chunk=3)
        for ours, theirs in zip(
            together.energy_and_gradient(x), alone.energy_and_gradient(x), strict=True
        ):
            assert torch.equal(ours, theirs)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(id(alone.contexts.mine()))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
        thread.join()
    assert id(alone.contexts.mine()) not in found


def test_processes_and_copies():
    system, sites = argon()
    x = shaken(sites, n=5)
    energy = OpenMMEnergy(system, platform="Reference", chunk=2)
    copied = pickle.loads(pickle.dumps(energy))
    assert torch.equal(copied(x), energy(x))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        energy.executor = pool
        assert torch.equal(energy(x), copied(x))


def test_a_context_never_crosses_a_fork(monkeypatch):
    energy = OpenMMEnergy(argon()[0], platform="Reference")
    ours = energy.contexts.mine()
    monkeypatch.setattr("helmflow.energies.openmm_context.os.getpid", lambda: -1)
    theirs = energy.contexts.mine()
    assert theirs is not ours
    assert energy.contexts.mine() is theirs
    assert len(energy.contexts._of_parents) == 1


def test_mistakes_are_one_line(lennard_jones, tmp_path):
    energy, sites = lennard_jones
    system = argon()[0]
    with pytest.raises(InputError, match=r"x: expected shape \(batch, 27, 3\)"):
        energy(sites[None, :5])
    with pytest.raises(InputError, match=r"platform: expected one of .*CPU.*got 'GPU'"):
        OpenMMEnergy(system, platform="GPU")
    with pytest.raises(InputError, match="system: expected a System OpenMM can evaluate"):
        OpenMMEnergy(system, properties={"Colour": "red"})
    with pytest.raises(InputError, match="boxes: expected shape"):
        energy(sites[None], np.eye(2))
    with pytest.raises(InputError, match="chunk"):
        OpenMMEnergy(system, chunk=0)
    with pytest.raises(EnergyError, match="OpenMM failed"):
        energy(sites[None], 0.5 * energy.box)  # smaller than twice the cutoff
    for name, text, message in (
        ("missing.xml", None, "a readable XML file"),
        ("broken.xml", "<System", "an OpenMM System as XML"),
        ("integrator.xml", openmm.XmlSerializer.serialize(openmm.VerletIntegrator(0.1)), "Verlet"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=message) as error:
            read_openmm_system(tmp_path / name, "system-a")
        assert "\n" not in str(error.value)


def test_harmonic_wells_by_hand():
    system = oscillators([10.0, 20.0], [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    energy = OpenMMEnergy(system, platform="Reference")
    x = torch.tensor([[[0.1, 0.0, 0.0], [1.0, 0.2, 0.0]]], dtype=torch.float64)
    assert energy(x).item() == pytest.approx(0.05 + 0.4)
    assert not energy.is_periodic
