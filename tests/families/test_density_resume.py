"""Runs of densities that die at any moment end with the same numbers; sampling a finished one."""

import contextlib
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from helmflow.cli import app
from helmflow.errors import InputError
from helmflow.families import run
from helmflow.families.density.family import DensityFamily
from helmflow.families.density.learned_flow import KIND
from helmflow.families.density.modes import SearchPlan
from helmflow.families.density.plan import DensityPlan
from helmflow.families.samples import sample_flow
from helmflow.results import RunDirectory
from helmflow.settings import Settings
from helmflow.skeleton.kept import read_flow
from helmflow.system import load_system
from helmflow.training.plan import TrainingPlan
from helmflow.training.replay import ReplayPlan

RING = """
schema = 1
name = "ring"
kind = "density"
summary = "three rotors and a spring"
manifold = "{manifold}"

[potential]
{potential}
"""
KINDS = {
    "map": ("T1", 'kind = "torus_mixture"\ncentres = [[1.0], [3.5]]\nconcentration = 2.0'),
    "trained": ("T3", 'kind = "xy_ring"\nn = 3\ncoupling = 1.0'),
    "replayed": ("T3", 'kind = "torus_mixture"\ncentres = [[1.0, 2.0, 3.0]]'),
    "chain": (
        "T3",
        'kind = "sines_and_cosines"\ndim = 3\nheight = 0.5\nfrequencies = [1, 1]',
    ),
}


class Killed(Exception):  # noqa: N818
    pass


REPLAY = ReplayPlan(rounds=2, fresh=64, updates=2, batch=32, learning_rate=1e-2)
SHORT = DensityPlan(
    search=SearchPlan(probes=1024, walks=8),
    descent=TrainingPlan(3, 64, 1e-2, clip_norm=5.0),
    points=64,
    refinements=1,
    replay=REPLAY,
    replays=2,
    contest=REPLAY,
)


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(DensityFamily, "plan", SHORT)


def start(tmp_path, kind, folder):
    file = tmp_path / f"{kind}.toml"
    file.write_text(RING.format(manifold=KINDS[kind][0], potential=KINDS[kind][1]))
    system = load_system(file)
    settings = Settings(target_error=8e-3, seed=3)
    directory = RunDirectory.create(
        tmp_path / folder, settings.to_toml(), system.digest, system=str(file)
    )
    return system, settings, directory


def outcome(directory):
    result = json.loads((directory.path / "result.json").read_text())
    energies = result.pop("cost")["energy_evaluations"]
    return result, energies, directory.read_work(), directory.read_metrics()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_event(kind, tmp_path, monkeypatch):
    if kind == "replayed":
        monkeypatch.setattr(DensityFamily, "plan", replace(SHORT, close=0.0))
    if kind == "chain":
        monkeypatch.setattr(DensityFamily, "plan", replace(SHORT, most_angles=2))
    system, settings, directory = start(tmp_path, kind, "whole")
    run(system, settings, directory, directory.record)
    whole = outcome(directory)
    system, settings, directory = start(tmp_path, kind, "killed")
    while not directory.finished:  # every life dies of its second event
        told = []

        def fuse(event, directory=directory, told=told):
            directory.record(event)
            told.append(event)
            if len(told) == 2:
                raise Killed

        with contextlib.suppress(Killed):
            run(system, settings, directory, fuse)
        directory = RunDirectory.resume(directory.path, system.digest)
    result, energies, arrays, events = outcome(directory)
    assert (result, energies) == whole[:2]
    for name, array in whole[2].items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)
    assert events == whole[3]


def test_a_fitted_flow_is_not_fitted_again(tmp_path, monkeypatch):
    system, settings, directory = start(tmp_path, "map", "run")

    def die(event):
        if event.stage == "sampling":
            raise Killed

    with pytest.raises(Killed):
        run(system, settings, directory, die)
    assert (directory.path / "flow.safetensors").is_file()
    monkeypatch.setattr(
        "helmflow.families.density.potential_maps.fit_potential",
        lambda *_: pytest.fail("fitted again"),
    )
    run(system, settings, RunDirectory.resume(directory.path, system.digest), lambda _: None)


def test_samples_of_a_finished_run(tmp_path, monkeypatch):
    system, settings, directory = start(tmp_path, "map", "run")
    run(system, settings, directory, lambda _: None)
    out = tmp_path / "samples.npz"
    done = CliRunner().invoke(
        app, ["sample", str(directory.path), "--n", "4000", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    with np.load(out) as archive:
        x = archive["x"]
    assert x.shape == (4000, 1)
    nodes = torch.linspace(0.0, 2.0 * math.pi, 2001, dtype=torch.float64)[:-1, None]
    p = (-system.reduced_potential(nodes)).softmax(0).numpy()
    expected = p @ np.cos(nodes[:, 0].numpy())
    error = np.sqrt((p @ np.cos(nodes[:, 0].numpy()) ** 2 - expected**2) / 4000)
    assert abs(np.cos(x).mean() - expected) < 5.0 * error
    again = sample_flow(directory.path, 4000, seed=0)
    np.testing.assert_array_equal(again.configurations.numpy(), x)
    weighted = tmp_path / "weighted.npz"
    arguments = ["sample", str(directory.path), "--n", "50", "--weights", "--out", str(weighted)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    with np.load(weighted) as archive:
        assert archive["log_weights"].shape == (50,)
    drawing = "helmflow.families.samples.sample_flow"
    monkeypatch.setattr(drawing, lambda *_: pytest.fail("late"))
    refused = CliRunner().invoke(
        app, ["sample", str(directory.path), "--out", str(tmp_path / "x.extxyz")]
    )
    assert refused.exit_code == 2
    assert "npz" in refused.output


def test_the_flow_says_what_it_is(tmp_path):
    """Kind, energy and architecture are in the file; another density's is refused."""
    system, settings, directory = start(tmp_path, "map", "run")
    run(system, settings, directory)
    energy = {"manifold": "T1", "system": system.digest}
    flow = read_flow(directory.path, [KIND], energy)
    assert set(flow.facts) == {"architecture", "loss", "least_eigenvalue", "unfinished"}
    with pytest.raises(InputError, match="a flow of this energy"):
        read_flow(directory.path, [KIND], {**energy, "system": "another"})


def test_a_run_of_another_system_is_refused(tmp_path):
    system, settings, directory = start(tmp_path, "map", "run")
    run(system, settings, directory, lambda _: None)
    (tmp_path / "map.toml").write_text(
        RING.format(manifold="T1", potential='kind = "torus_mixture"\ncentres = [[2.0]]')
    )
    with pytest.raises(InputError, match="changed system"):
        sample_flow(directory.path, 100)
