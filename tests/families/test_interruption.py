"""Runs that are interrupted at any moment finish with the same bits."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from helmflow.cli import app
from helmflow.families import run
from helmflow.families.path import family, rounds
from helmflow.results import RunDirectory
from helmflow.settings import BaseSettings, SamplingSettings, Settings, TrainingSettings
from helmflow.system import load_system

SETTINGS = {
    "lattice/phi4_4": Settings(
        target_error=0.04,
        sampling=SamplingSettings(chains=8, nodes=5, steps=6, burn_in=3),
        base=BaseSettings(kind="self_consistent", iterations=2),
    ),
    "lennard_jones/fcc_32": Settings(
        target_error=2.5e-3,
        sampling=SamplingSettings(chains=8, nodes=5, steps=6, burn_in=3),
        base=BaseSettings(kind="harmonic"),
    ),
}
TRAINING = TrainingSettings(steps=30, batch=32, checkpoint_every=4)


def settings_of(name, method):
    """Only what the method reads: the rest is refused."""
    settings = SETTINGS[name]
    unread = {"nodes": None} if method in ("fep", "bar", "flow") else {}
    unread |= {"burn_in": None} if method == "fep" else {}
    changes = {"method": method, "sampling": settings.sampling.model_copy(update=unread)}
    if method == "flow" and name.startswith("lattice"):
        changes["training"] = TRAINING
    return settings.model_copy(update=changes)


class Killed(Exception):  # noqa: N818
    pass


class Fuse:
    """Records events until one that it does not survive."""

    def __init__(self, directory, moment):
        self.directory, self.left = directory, moment

    def __call__(self, event):
        self.directory.record(event)
        if self.left == 0:
            raise Killed
        if self.left is not None:
            self.left -= 1


def whole_run(name, path, method="auto"):
    system = load_system(name)
    settings = settings_of(name, method)
    directory = RunDirectory.create(path, settings.to_toml(), system.digest)
    events = []
    run(system, settings, directory, events.append)
    return directory, len(events)


def interrupted_run(name, path, moments, method="auto"):
    """A run that dies at the given events (counted in each life), and is resumed each time."""
    system = load_system(name)
    settings = settings_of(name, method)
    directory = RunDirectory.create(path, settings.to_toml(), system.digest)
    deaths = 0
    for moment in [*moments, None]:
        try:
            run(system, settings, directory, Fuse(directory, moment))
            break
        except Killed:
            deaths += 1
            directory = RunDirectory.resume(path, system.digest)
    return directory, deaths


def assert_same_outcome(one, two):
    results = []
    for directory in (one, two):
        result = json.loads((directory.path / "result.json").read_text())
        cost = result.pop("cost")
        results.append((result, cost["energy_evaluations"]))
    assert results[0] == results[1]
    works = one.read_work(), two.read_work()
    assert works[0].keys() == works[1].keys()
    for key, array in works[0].items():
        np.testing.assert_array_equal(array, works[1][key], err_msg=key)


MOMENTS = [("lattice/phi4_4", 5), ("lennard_jones/fcc_32", 3)]


@pytest.mark.parametrize(("name", "n_moments"), MOMENTS)
def test_interrupted_once_at_any_event(name, n_moments, tmp_path):
    whole, n_events = whole_run(name, tmp_path / "whole")
    assert n_events > 8
    moments = np.unique(np.linspace(0, n_events - 1, n_moments).astype(int))
    for moment in moments.tolist():
        resumed, deaths = interrupted_run(name, tmp_path / str(moment), [moment])
        assert deaths == 1
        assert_same_outcome(whole, resumed)


def test_interrupted_again_and_again(tmp_path, rng):
    whole, n_events = whole_run("lattice/phi4_4", tmp_path / "whole")
    for attempt in range(2):
        moments = rng.integers(0, n_events, size=5).tolist()
        resumed, _ = interrupted_run("lattice/phi4_4", tmp_path / str(attempt), moments)
        assert_same_outcome(whole, resumed)


@pytest.mark.parametrize("method", ["fep", "bar", "ti", "flow"])
def test_other_methods_resume_as_well(method, tmp_path):
    whole, n_events = whole_run("lattice/phi4_4", tmp_path / "whole", method)
    moments = {n_events // 2, n_events - 5} if method == "flow" else {n_events // 2}
    for moment in moments:
        path = tmp_path / f"resumed_{moment}"
        resumed, deaths = interrupted_run("lattice/phi4_4", path, [moment], method)
        assert deaths == 1
        assert_same_outcome(whole, resumed)


@pytest.mark.slow
def test_a_flow_of_a_crystal_resumes_to_the_same_cross_check(tmp_path):
    whole, n_events = whole_run("lennard_jones/fcc_32", tmp_path / "whole", "flow")
    resumed, deaths = interrupted_run(
        "lennard_jones/fcc_32", tmp_path / "resumed", [n_events - 4], "flow"
    )
    assert deaths == 1
    assert_same_outcome(whole, resumed)


def test_a_resumed_run_repeats_no_line_of_its_metrics(tmp_path):
    _, n_events = whole_run("lattice/phi4_4", tmp_path / "whole")
    resumed, _ = interrupted_run("lattice/phi4_4", tmp_path / "resumed", [n_events // 2])
    lines = [json.dumps(line, sort_keys=True) for line in resumed.read_metrics()]
    sampling = [line for line in lines if '"sampling"' in line]
    assert len(sampling) == len(set(sampling))


COMMAND = [sys.executable, "-c", "from helmflow.cli import app; app()"]


def arguments(name, folder):
    return [
        *("run", name, "--out", str(folder / "run"), "--resume", "--seed", "5"),
        *("--settings", str(folder / "settings.toml")),
    ]


def start(name, folder):
    return subprocess.Popen(
        [*COMMAND, *arguments(name, folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(name, folder):
    """In this process, where everything is imported already."""
    before = torch.get_num_threads()
    done = CliRunner().invoke(app, arguments(name, folder))
    torch.set_num_threads(before)
    assert done.exit_code == 0, done.output


def last_line(folder):
    file = folder / "run" / "metrics.jsonl"
    return file.stat().st_mtime_ns if file.exists() else None


def wait_until_working(process, folder, before):
    """Imports take longer than sampling; a kill is only interesting after them."""
    while process.poll() is None and last_line(folder) == before:
        time.sleep(0.02)


def kill_and_resume(name, tmp_path, rng, kills):
    """SIGKILL at random moments of a run's work, then let it finish."""
    toml = SETTINGS[name].model_copy(update={"seed": 5}).to_toml()
    folders = [tmp_path / "whole", tmp_path / "killed"]
    for folder in folders:
        folder.mkdir()
        (folder / "settings.toml").write_text(toml)
    start_of_run = time.monotonic()
    finish(name, folders[0])
    length = time.monotonic() - start_of_run
    for _ in range(kills):
        before = last_line(folders[1])
        process = start(name, folders[1])
        wait_until_working(process, folders[1], before)
        time.sleep(rng.uniform(0.0, 0.4) * length)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(name, folders[1])
    assert_same_outcome(*(RunDirectory.open(folder / "run") for folder in folders))
    assert not list((folders[1] / "run").glob("**/*.tmp"))


@pytest.mark.slow
def test_three_kills(tmp_path, rng):
    kill_and_resume("lattice/phi4_4", tmp_path, rng, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_twenty_kills(name, tmp_path, rng):
    kill_and_resume(name, tmp_path, rng, 20)


def test_comparisons_that_fail_softly_are_sampled_again(monkeypatch, tmp_path):
    once, _ = whole_run("lattice/phi4_4", tmp_path / "once")
    monkeypatch.setattr("helmflow.families.path.family.failed_by_chance", lambda checks: True)
    whole, n_events = whole_run("lattice/phi4_4", tmp_path / "again")
    sweeps = [1 + directory.read_work()["step"].max() for directory in (once, whole)]
    assert sweeps[1] == 2 * sweeps[0]
    for moment in (n_events - 3, n_events - 2):
        resumed, _ = interrupted_run("lattice/phi4_4", tmp_path / str(moment), [moment])
        assert_same_outcome(whole, resumed)


def test_a_ladder_too_coarse_is_left_for_a_finer_one(monkeypatch, tmp_path):
    settings = settings_of("lattice/phi4_4", "auto")
    free = {"sampling": settings.sampling.model_copy(update={"nodes": None})}
    monkeypatch.setitem(SETTINGS, "lattice/phi4_4", settings.model_copy(update=free))
    for module in (family, rounds):
        monkeypatch.setattr(module, "too_coarse", lambda samples, goal: len(samples.lam) < 9)
    whole, n_events = whole_run("lattice/phi4_4", tmp_path / "whole")
    work = whole.read_work()
    assert len(work["lam"]) >= 9
    assert work["step"].max() >= 5
    for moment in (n_events // 2, n_events - 3):
        resumed, _ = interrupted_run("lattice/phi4_4", tmp_path / str(moment), [moment])
        assert_same_outcome(whole, resumed)
