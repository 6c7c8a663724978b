"""What a new family of sixty lines gets from the skeleton."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import toy_family
from helmflow.cli import app
from helmflow.errors import InputError
from helmflow.families import free_energy
from helmflow.results import RunDirectory
from helmflow.system import load_system

HERE = Path(toy_family.__file__).parent
EXACT = 0.5 * np.log(2.0 * np.pi / 1.3)
TOY = f"""schema = 1
name = "toy"
kind = "toy"
summary = "one spring"
stiffness = 1.3
[[references]]
quantity = "log_partition_function"
value = {EXACT}
stderr = 0.0
per = "system"
source = "exact"
"""


@pytest.fixture
def toy(tmp_path):
    """Its file."""
    (tmp_path / "toy.toml").write_text(TOY)
    return tmp_path / "toy.toml"


def command(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, done.output


def test_it_takes_at_most_sixty_lines_and_one_registration():
    text = Path(toy_family.__file__).read_text()
    assert len(text.splitlines()) <= 60
    assert text.count("register(") == 1


def test_run_gives_value_error_grade_reference_and_page(toy, tmp_path):
    code, output = command("run", toy, "--out", tmp_path / "run")
    assert code == 0, output
    result = RunDirectory.open(tmp_path / "run").read_result()
    assert abs(result.value - EXACT) < 5.0 * result.stderr
    assert result.stderr <= 0.01
    assert result.grade == "B"
    assert abs(result.references[0].deviation_sigma) < 5.0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "toy" in page
    assert "one side only" in page
    again = command("run", toy, "--out", tmp_path / "json", "--json")[1]
    assert json.loads(again[again.index("{") :])["value"] == result.value


def test_killed_at_any_event_it_resumes_to_the_same_bits(toy, tmp_path):
    arguments = ["run", str(toy), "--resume", "--out"]
    command(*arguments, tmp_path / "whole")
    whole = RunDirectory.open(tmp_path / "whole")
    script = [sys.executable, str(HERE / "command_with_toy.py"), *arguments]
    for moment in range(len(whole.read_metrics())):
        folder = tmp_path / f"killed_{moment}"
        killed = subprocess.run(
            [*script, str(folder)],
            env=os.environ | {"KILL_AT": str(moment), "PYTHONPATH": _path()},
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert command(*arguments, folder)[0] == 0
        resumed = RunDirectory.open(folder)
        one, two = whole.read_result(), resumed.read_result()
        assert one.cost.energy_evaluations == two.cost.energy_evaluations
        assert (one.value, one.stderr, one.checks) == (two.value, two.stderr, two.checks)
        for name, array in whole.read_work().items():
            np.testing.assert_array_equal(array, resumed.read_work()[name])
        assert resumed.read_metrics() == whole.read_metrics()


def _path():
    return os.pathsep.join([str(HERE), *sys.path])


@pytest.mark.parametrize("limit", [400, 999, 4000])
def test_a_budget_is_respected_to_within_one_batch(toy, limit):
    settings = {"max_evaluations": limit, "target_error": 1e-4}
    result = free_energy(load_system(toy), settings=settings)
    assert limit - 1.5 * 2 * limit / 3 <= result.cost.energy_evaluations <= limit


def test_a_budget_below_the_first_batch_is_refused_and_can_be_raised(toy, tmp_path):
    code, output = command("run", toy, "--max-evaluations", 50, "--out", tmp_path / "run")
    assert code == 2
    assert "max_evaluations: expected at least 126" in output  # with those of the trial
    more = ["--max-evaluations", 5000, "--target-error", 0.01]
    assert command("run", toy, "--resume", *more, "--out", tmp_path / "run")[0] == 0


def test_settings_that_say_nothing_are_refused(toy, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text("[sampling]\nnodes = 7\n")
    code, output = command("run", toy, "--settings", file, "--out", tmp_path / "run")
    assert code == 2
    assert "sampling.nodes: expected none" in output
    assert not (tmp_path / "run").exists()
    file.write_text("[flow]\nsteps = 2\n")
    assert command("run", toy, "--settings", file, "--out", tmp_path / "run")[0] == 0


def test_methods_it_does_not_have_are_refused(toy):
    with pytest.raises(InputError, match="method: expected auto or fep for a toy, got ti"):
        free_energy(load_system(toy), method="ti")


def test_it_can_be_sampled(toy, tmp_path):
    assert command("run", toy, "--out", tmp_path / "run")[0] == 0
    out = tmp_path / "samples.npz"
    code, output = command("sample", tmp_path / "run", "--n", 4000, "--out", out)
    assert code == 0, output
    with np.load(out) as archive:
        assert abs(archive["x"].var() * 1.3 - 1.0) < 0.15
