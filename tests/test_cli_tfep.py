import bz2
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import mdtraj
import numpy as np
import openmm
import pytest
from typer.testing import CliRunner

import gaussian_pair as pair
from helmflow.cli import app
from helmflow.errors import ConvergenceError
from helmflow.results import RunDirectory
from openmm_systems import argon


def call(arguments, *more):
    words = [word for item in arguments.items() for word in item]
    return CliRunner().invoke(app, ["tfep", *words, *more])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return pair.write(tmp_path_factory.mktemp("pair"))


def test_from_files_to_result_and_report(files, tmp_path):
    options = ("--json", "--platform", "Reference", "--map", "gaussian")
    done = call(files, "--out", str(tmp_path / "run"), *options)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["quantity"] == "free_energy_difference"
    assert abs(result["value"] - pair.DELTA_F) < 5 * result["stderr"]
    assert result["grade"] == "A"
    methods = [row["method"] for row in result["estimates"]]
    assert "bar" in methods
    assert "bar, gaussian map" in methods
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    settings = tomllib.loads((tmp_path / "run" / "settings.toml").read_text())
    assert settings == {
        "map": "gaussian",
        "steps": 600,
        "solute": "",
        "temperature": 300.0,
        "seed": 0,
        "platform": "Reference",
        "threads": 1,
        "start": 0,
        "stride": 1,
    }
    with np.load(tmp_path / "run" / "work.npz") as work:
        assert work["w_F"].shape == (400,)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Overlap of states" in page
    assert "Convergence" in page
    assert "Free-energy difference" in page
    assert "variance reduction" in page
    assert "variance reduction" in [row["name"] for row in result["observables"]]


def test_nothing_but_json_reaches_stdout(files, tmp_path):
    words = [word for item in files.items() for word in item]
    code = "from helmflow.cli import app; app()"
    command = [sys.executable, "-c", code, "tfep", *words, "--json", "--map", "none"]
    command += ["--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["unit"] == "kT"


def test_no_map_and_threads(files, tmp_path):
    done = call(files, "--out", str(tmp_path / "run"), "--map", "none", "--threads", "2")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("Delta F = ")


@pytest.mark.parametrize("choice", ["molecule", "trained"])
def test_a_map_of_one_molecule_needs_one_molecule(choice, files, tmp_path):
    done = call(files, "--out", str(tmp_path / "run"), "--map", choice)
    assert done.exit_code == 2
    assert "topology: expected one molecule" in done.stderr


def test_a_directory_in_use_is_refused(files, tmp_path):
    (tmp_path / "settings.toml").write_text("")
    done = call(files, "--out", str(tmp_path))
    assert done.exit_code == 2
    assert done.stderr.startswith("error: out: expected a new or empty directory, got")


def test_exchanged_trajectories_exit_with_1(files, tmp_path):
    swapped = files | {"--traj-a": files["--traj-b"], "--traj-b": files["--traj-a"]}
    done = call(swapped, "--out", str(tmp_path / "run"), "--json", "--map", "none")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["grade"] == "F"


def test_rounded_coordinates_are_a_graded_warning(tmp_path):
    arguments = pair.write(tmp_path / "xyz", kind="xyz")
    done = call(arguments, "--out", str(tmp_path / "run"), "--json")
    result = json.loads(done.stdout)
    assert result["grade"] != "A"
    (check,) = [c for c in result["checks"] if "is precise" in c["name"]]
    assert not check["passed"]
    assert "traj-a: " in check["explanation"]
    assert "traj-b: " in check["explanation"]


def test_a_trajectory_that_was_cut_off_is_a_graded_warning(files, tmp_path):
    whole = Path(files["--traj-a"]).read_bytes()
    (tmp_path / "cut.dcd").write_bytes(whole[: len(whole) // 2 + 7])
    cut = files | {"--traj-a": str(tmp_path / "cut.dcd")}
    done = call(cut, "--out", str(tmp_path / "run"), "--json", "--map", "none")
    (check,) = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "trajectory is whole"]
    assert not check["passed"]
    assert 190 < check["value"] < 210


def test_a_killed_run_does_not_block_its_directory(files, tmp_path):
    RunDirectory.create(tmp_path / "run", "seed = 1\n", "digest", resumable=False)
    done = call(files, "--out", str(tmp_path / "run"), "--map", "none", "--stride", "4")
    assert done.exit_code in (0, 1), done.output
    assert "seed = 0" in (tmp_path / "run" / "settings.toml").read_text()
    assert not (tmp_path / "run" / ".lock").exists()


@pytest.mark.parametrize("error", [ConvergenceError("no end", 0.0), KeyboardInterrupt()])
def test_a_failed_calculation_leaves_no_directory(error, files, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("helmflow.families.two_states.targeted.targeted_fep", fail)
    done = call(files, "--out", str(tmp_path / "run"), "--map", "none")
    assert done.exit_code in (1, 130)
    assert not (tmp_path / "run").exists()


def test_several_states(files, tmp_path):
    words = ["mbar", "--topology", files["--topology"], "--temperature", "300", "--json"]
    for side in "ab":
        words += ["--system", files[f"--system-{side}"], "--traj", files[f"--traj-{side}"]]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "run")])
    assert done.exit_code in (0, 1), done.output
    result = json.loads(done.stdout)
    assert abs(result["value"] - pair.DELTA_F) < 5 * result["stderr"]
    with np.load(tmp_path / "run" / "work.npz") as work:
        assert work["u_kn"].shape == (2, 800)


def test_lambdas_of_one_system(tmp_path):
    system, kT = openmm.System(), pair.KT
    force = openmm.CustomExternalForce("100*(1+lam)*(x^2+y^2+z^2)")
    force.addGlobalParameter("lam", 0.0)
    for k in range(3):
        system.addParticle(12.011)
        force.addParticle(k, [])
    system.addForce(force)
    with bz2.open(tmp_path / "one.xml.bz2", "wt") as file:
        file.write(openmm.XmlSerializer.serialize(system))
    (tmp_path / "lambdas.toml").write_text("lam = [0.0, 1.0]\n")
    rng, topology = np.random.default_rng(0), pair.topology()
    words = ["mbar", "--system", str(tmp_path / "one.xml.bz2"), "--temperature", "300"]
    for lam in (0, 1):
        x = rng.normal(size=(500, 3, 3)) * np.sqrt(kT / (200.0 * (1.0 + lam)))
        mdtraj.Trajectory(x, topology).save_dcd(str(tmp_path / f"{lam}.dcd"))
        words += ["--traj", str(tmp_path / f"{lam}.dcd")]
    mdtraj.Trajectory(np.zeros((1, 3, 3)), topology).save_pdb(str(tmp_path / "top.pdb"))
    words += ["--topology", str(tmp_path / "top.pdb"), "--platform", "Reference", "--json"]
    told = ["--parameters", str(tmp_path / "lambdas.toml")]
    done = CliRunner().invoke(app, [*words, *told, "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert abs(result["value"] - 4.5 * np.log(2.0)) < 5 * result["stderr"]
    assert result["grade"] == "A"
    for text, expected in (
        ("lamda = [0.0, 1.0]\n", "parameters that a force has (lam)"),
        ("lam = [0.0, 'x']\n", "a list with a number for every state"),
        ("lam = [0.0]\n", "two or more"),
        ("lam = [0.0, 1.0, 2.0]\n", "traj: expected one for each of 3 systems"),
    ):
        (tmp_path / "lambdas.toml").write_text(text)
        done = CliRunner().invoke(app, [*words, *told, "--out", str(tmp_path / "no")])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        assert expected in done.stderr


def test_frames_from_before_equilibrium_are_left_out_if_asked(files, tmp_path):
    done = call(files, "--out", str(tmp_path / "run"), "--json", "--start", "auto")
    assert done.exit_code in (0, 1), done.output
    result = json.loads(done.stdout)
    (check,) = [c for c in result["checks"] if c["name"] == "frames before equilibrium"]
    assert check["passed"]
    assert "of 400 frames left out" in check["explanation"]
    assert abs(result["value"] - pair.DELTA_F) < 5 * result["stderr"]
    assert 'start = "auto"' in (tmp_path / "run" / "settings.toml").read_text()


def with_system(folder, files, change):
    system = pair.systems()[0]
    change(system)
    (folder / "bad.xml").write_text(openmm.XmlSerializer.serialize(system))
    return files | {"--system-a": str(folder / "bad.xml")}


def out_of_order(folder, files):
    def change(system):
        for k, mass in enumerate((1.008, 12.011, 12.011)):
            system.setParticleMass(k, mass)

    top = pair.topology()
    top.atom(1).element = mdtraj.element.hydrogen
    mdtraj.Trajectory(pair.CENTRES[None], top).save_pdb(str(folder / "top.pdb"))
    return with_system(folder, files, change) | {"--topology": str(folder / "top.pdb")}


def periodic(system):
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    for _ in range(3):
        force.addParticle(0.0, 0.1, 0.1)
    system.addForce(force)


def varying_box(folder, files):
    made = mdtraj.Trajectory(pair.samples(20)[0].numpy(), pair.topology())
    made.unitcell_lengths = 3.0 + 0.1 * np.random.default_rng(0).random((20, 3))
    made.unitcell_angles = np.full((20, 3), 90.0)
    made.save(str(folder / "bad.dcd"))
    return files | {"--traj-a": str(folder / "bad.dcd")}


def boxes_of_other_frames(folder, files):
    x, boxes = pair.samples(20)[0].numpy(), np.broadcast_to(3.0 * np.eye(3), (7, 3, 3))
    np.savez(folder / "bad.npz", positions=x, boxes=boxes)
    return files | {"--traj-a": str(folder / "bad.npz")}


def file_with(option, content):
    def make(folder, files):
        (folder / "bad.dcd").write_bytes(content)
        return files | {option: str(folder / "bad.dcd")}

    return make


def archive_of(kind):
    def make(folder, files):
        np.savez(folder / "bad.npz", positions=pair.samples(20)[0].numpy().astype(kind))
        return files | {"--traj-a": str(folder / "bad.npz")}

    return make


def named(name):
    def make(folder, files):
        (folder / name).write_bytes(b"not a trajectory")
        return files | {"--traj-a": str(folder / name)}

    return make


MISTAKES = {
    "traj-a: expected real numbers, got": archive_of(complex),
    "of type <U": archive_of(str),
    "x.h5": named("x.h5"),
    "neither .npz nor a format of mdtraj": named("x.extxyz"),
    "traj-a: expected one box per frame": boxes_of_other_frames,
    "system: expected one set of constraints": lambda folder, files: with_system(
        folder, files, lambda system: system.addConstraint(0, 1, 0.3)
    ),
    "system-a: expected 3 particles": lambda folder, files: with_system(
        folder, files, lambda system: system.addParticle(1.0)
    ),
    "in the order of the topology": out_of_order,
    "traj-a: expected a box": lambda folder, files: with_system(folder, files, periodic),
    "constant box": varying_box,
    "traj-a: expected a readable trajectory": file_with("--traj-a", b"CORD but not really"),
    "which is not there": lambda folder, files: files | {"--traj-a": str(folder / "no.dcd")},
    "an OpenMM System as XML": file_with("--system-b", b"<State/>"),
    "start: expected a number of frames, or auto": lambda _, files: files | {"--start": "soon"},
    "start: expected a number of frames with --shard": lambda _, files: (
        files | {"--start": "auto", "--shard": "1/2"}
    ),
    "temperature: expected": lambda _, files: files | {"--temperature": "-1"},
}


@pytest.mark.parametrize("expected", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing_behind(expected, files, tmp_path):
    done = call(MISTAKES[expected](tmp_path, files), "--out", str(tmp_path / "run"))
    assert done.exit_code == 2, done.output
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_shards_and_merge(files, tmp_path):
    for part in ("1/2", "2/2"):
        done = call(files, "--shard", part, "--out", str(tmp_path / "parts"), "--map", "none")
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("wrote ")
    words = ["merge", str(tmp_path / "parts"), "--out", str(tmp_path / "run"), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code in (0, 1), done.output
    assert abs(json.loads(done.stdout)["value"] - pair.DELTA_F) < 2.0
    assert (tmp_path / "run" / "report.html").exists()
    for bad in ("3", "0/2", "x/y"):
        done = call(files, "--shard", bad, "--out", str(tmp_path / "parts"))
        assert done.exit_code == 2
        assert "shard: expected i/n" in done.stderr


def test_fitted_transport_around_the_particle_that_changes(tmp_path):
    """Frames of a lattice with noise: not equilibrium, but all that the files must bring about."""
    arguments = {"--topology": str(tmp_path / "top.pdb"), "--temperature": "150"}
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for k, side in enumerate("ab"):
        system, x = argon(n_side=4, spacing=0.38, cutoff=0.7)
        force = openmm.NonbondedForce()
        force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
        force.setCutoffDistance(0.7)
        for i in range(len(x)):
            force.addParticle(0.0, 0.2 + 0.1 * k * (i == 0), 1.0 * (i == 0))
        system.addForce(force)
        frames = x.numpy() + 0.02 * np.random.default_rng(k).normal(size=(60, len(x), 3))
        np.savez(tmp_path / f"{side}.npz", positions=frames, boxes=4 * 0.38 * np.eye(3))
        (tmp_path / f"{side}.xml").write_text(openmm.XmlSerializer.serialize(system))
        arguments[f"--system-{side}"] = str(tmp_path / f"{side}.xml")
        arguments[f"--traj-{side}"] = str(tmp_path / f"{side}.npz")
    for _ in x:
        topology.add_atom("Ar", mdtraj.element.argon, topology.add_residue("AR", chain))
    mdtraj.Trajectory(x.numpy()[None], topology).save_pdb(arguments["--topology"])
    done = call(arguments, "--out", str(tmp_path / "run"), "--json", "--map", "transport")
    assert done.exit_code in (0, 1), done.output
    methods = [row["method"] for row in json.loads(done.stdout)["estimates"]]
    assert "bar, fitted transport map" in methods
    wrong = call(arguments, "--out", str(tmp_path / "no"), "--map", "transport", "--solute", "64")
    assert wrong.exit_code == 2
    assert "solute: expected indices such as 0,4-7" in wrong.stderr


def test_the_summary_says_what_the_map_saves(files, tmp_path):
    options = ("--platform", "Reference", "--map", "gaussian", "--stride", "4")
    done = call(files, "--out", str(tmp_path / "run"), *options)
    assert "\nvariance reduction: " in done.stdout
