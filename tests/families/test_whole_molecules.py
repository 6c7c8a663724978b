"""Molecules broken across the faces of a box."""

import mdtraj
import numpy as np
import openmm
import pytest

from helmflow.families.two_states.openmm_files import Reading, read_states
from helmflow.families.two_states.openmm_maps import choose_map
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.families.two_states.whole_molecules import joined

CHAIN, COPIES = 4, 2
BONDS = [(CHAIN * m + i, CHAIN * m + i + 1) for m in range(COPIES) for i in range(CHAIN - 1)]
SLANTED = np.array([[2.0, 0.0, 0.0], [0.5, 1.8, 0.0], [-0.4, 0.3, 1.9]])


def chains(n, edge, seed):
    """Positions (n, particles, 3) of chains that are longer than half of the box."""
    rng = np.random.default_rng(seed)
    links = np.array([0.36, 0.0, 0.0]) + 0.02 * rng.normal(size=(n, COPIES, CHAIN, 3))
    start = edge * rng.random((n, COPIES, 1, 3))
    return (start + np.cumsum(links, axis=2)).reshape(n, CHAIN * COPIES, 3)


def wrapped(x, box):
    return x - np.floor(x @ np.linalg.inv(box)) @ box


@pytest.mark.parametrize("box", [2.0 * np.eye(3), SLANTED])
def test_joined_molecules_are_whole(box):
    x = chains(20, 2.0, 0)
    found = joined(wrapped(x, box), box, BONDS)
    offset = x[:, ::CHAIN] - found[:, ::CHAIN]
    np.testing.assert_allclose(found + np.repeat(offset, CHAIN, axis=1), x, atol=1e-12)
    boxes = np.repeat(box[None], 20, 0)
    boxes[3] = np.nan
    some = joined(wrapped(x, box), boxes, BONDS)
    np.testing.assert_array_equal(np.delete(some, 3, 0), np.delete(found, 3, 0))
    np.testing.assert_array_equal(some[3], wrapped(x, box)[3])
    np.testing.assert_array_equal(joined(x, box, BONDS), x)


def write(folder, *, broken):
    """Files of two volumes, with every particle in the box if ``broken``; for `read_states`."""
    folder.mkdir()
    topology = mdtraj.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    atoms = [
        topology.add_atom(f"C{i}", mdtraj.element.carbon, residue) for i in range(CHAIN * COPIES)
    ]
    for i, j in BONDS:
        topology.add_bond(atoms[i], atoms[j])
    mdtraj.Trajectory(np.zeros((1, CHAIN * COPIES, 3)), topology).save_pdb(folder / "top.pdb")
    for name, edge, seed in (("a", 2.0, 0), ("b", 2.1, 1)):
        system = openmm.System()
        springs = openmm.HarmonicBondForce()  # sees no images: broken bonds would be long
        for _ in atoms:
            system.addParticle(12.011)
        for i, j in BONDS:
            springs.addBond(i, j, 0.36, 1000.0)
        system.addForce(springs)
        charges = openmm.NonbondedForce()
        charges.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        charges.setCutoffDistance(0.8)
        for _ in atoms:
            charges.addParticle(0.02, 0.1, 0.0)
        system.addForce(charges)
        (folder / f"{name}.xml").write_text(openmm.XmlSerializer.serialize(system))
        x, box = chains(40, edge, seed), edge * np.eye(3)
        np.savez(folder / name, positions=wrapped(x, box) if broken else x, boxes=box)
    return (
        [(f"system-{k}", folder / f"{k}.xml") for k in "ab"],
        [(f"traj-{k}", folder / f"{k}.npz") for k in "ab"],
        folder / "top.pdb",
        300.0,
    )


def test_particles_wrapped_into_the_box_change_nothing(tmp_path):
    found = []
    for broken in (False, True):
        a, b = read_states(
            *write(tmp_path / str(broken), broken=broken), reading=Reading(platform="Reference")
        )
        bijector = choose_map("scaling", a, b, 1)
        assert bijector.n_molecules == COPIES
        found.append(targeted_fep(a.state, b.state, a.samples, b.samples, map=bijector))
    whole, broken = found
    np.testing.assert_allclose(broken.works.forward, whole.works.forward, atol=1e-8)
    np.testing.assert_allclose(broken.works.reverse, whole.works.reverse, atol=1e-8)
    assert np.ptp(whole.works.forward) < 1.0  # molecules were moved as a whole
