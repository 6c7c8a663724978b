"""What is known about the coordinates of a file, whatever its format."""

import warnings

import mdtraj
import numpy as np
import pytest

from helmflow.errors import InputError
from helmflow.system.trajectory import read_trajectory

N = 12


@pytest.fixture(scope="module")
def frames():
    topology = mdtraj.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for k in range(N):
        topology.add_atom(f"C{k}", mdtraj.element.carbon, residue)
    x = 3.0 * np.random.default_rng(0).random((6, N, 3))
    made = mdtraj.Trajectory(x, topology)
    made.unitcell_vectors = np.tile(3.0 * np.eye(3), (6, 1, 1))
    return made


@pytest.mark.parametrize(
    ("kind", "rounded"),
    [
        ("dcd", None),
        ("trr", None),
        ("xtc", "1e-3 nm"),
        ("gro", "1e-3 nm"),
        ("pdb", "1e-4 nm"),
        ("pdb.gz", "1e-4 nm"),
        ("mdcrd", "1e-4 nm"),
        ("xyz", "1e-4 nm"),
        ("lammpstrj", "1e-4 nm"),
        ("nc", None),
    ],
)
def test_rounding_is_seen_in_the_numbers(kind, rounded, frames, tmp_path):
    path = tmp_path / f"x.{kind}"
    with warnings.catch_warnings():  # of a package that would write faster
        warnings.simplefilter("ignore")
        frames.save(str(path))
    found = read_trajectory(path, frames.topology, "traj-a")
    assert found.rounded == rounded
    np.testing.assert_allclose(found.positions, frames.xyz, atol=1e-3)


def test_rounding_survives_a_change_of_format(frames, tmp_path):
    np.savez(tmp_path / "x.npz", positions=np.round(frames.xyz, 3))
    assert read_trajectory(tmp_path / "x.npz", frames.topology, "traj-a").rounded == "1e-3 nm"


def test_a_frame_without_a_box_is_no_frame(frames, tmp_path):
    for bad in (np.nan, 0.0):
        boxes = frames.unitcell_vectors.astype(float)
        boxes[2] = bad
        np.savez(tmp_path / "x.npz", positions=frames.xyz, boxes=boxes)
        found = read_trajectory(tmp_path / "x.npz", frames.topology, "traj-a")
        np.testing.assert_allclose(found.box, 3.0 * np.eye(3))
        assert np.flatnonzero(np.isnan(found.positions).all((1, 2))).tolist() == [2]
    np.savez(tmp_path / "x.npz", positions=frames.xyz, boxes=0.0 * boxes)
    with pytest.raises(InputError, match="traj-a: expected a box with a volume"):
        read_trajectory(tmp_path / "x.npz", frames.topology, "traj-a")
