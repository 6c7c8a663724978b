"""The command line: what it prints where, its exit codes, and runs that are killed and resumed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import counting_family
from helmflow.cli import app
from helmflow.errors import InputError
from helmflow.families.registry import FAMILIES
from helmflow.results import Event, RunDirectory, working_in
from helmflow.skeleton.kept import Form, Kept
from helmflow.system.shipped import shipped_folder

SYSTEM, RUNS = "lattice/phi4_4", ("cut", "whole")
SCRIPT = Path(counting_family.__file__)
HEAVY = ("torch", "openmm", "ase", "numba", "matplotlib", "pymbar", "scipy", "numpy")


@pytest.fixture
def command(monkeypatch, tmp_path):
    """``command("run", ...)`` in an empty directory, with the counting family."""
    monkeypatch.setitem(FAMILIES, "lattice_field", counting_family.Counting)
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


def subprocess_run(*args, cwd, **environment):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *args],
        cwd=cwd,
        text=True,
        timeout=120,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


def run_and_list_imports(*arguments):
    """A finished process and its processor time; it fails if the command imported the heavy."""
    code = (
        f"import sys\nfrom helmflow.cli import app\ntry:\n    app({list(arguments)!r})\n"
        f"finally:\n    heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "    sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    before = os.times()
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    assert done.returncode == 0, done.stderr
    return done, spent


def test_help_is_quick_and_imports_nothing_heavy():
    done, spent = run_and_list_imports("--help")
    assert "run" in done.stdout
    assert "doctor" in done.stdout
    assert spent < 1.0  # processor time: a busy machine must not fail this


def test_the_list_of_systems_imports_nothing_heavy():
    done, spent = run_and_list_imports("systems", "--json")
    assert {row["name"] for row in json.loads(done.stdout)} >= {"ice/mw_cubic_8", SYSTEM}
    assert spent < 1.0


def test_run_ends_with_the_number(command):
    result = command("run", SYSTEM, "--seed", 3)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("ln Z = ")
    assert lines[-1].endswith("(count; grade B, one-sided)")
    path = Path("runs/lattice/phi4_4")
    names = {entry.name for entry in path.iterdir()}
    assert names == {
        "run.json",
        "settings.toml",
        "metrics.jsonl",
        "checkpoint",
        "work.npz",
        "result.json",
        "report.html",
    }
    assert "seed = 3" in (path / "settings.toml").read_text()
    assert "target_error = 0.01" in (path / "settings.toml").read_text()
    assert "sampling 0%" in result.stderr
    assert "sampling 100%" in result.stderr


def test_json_is_all_there_is_on_stdout(command):
    result = command("run", SYSTEM, "--json", "--out", "here")
    assert json.loads(result.stdout) == json.loads(Path("here/result.json").read_text())
    assert "sampling" in result.stderr


def test_grade_f_fails(command, monkeypatch):
    monkeypatch.setenv("GRADE", "F")
    assert command("run", SYSTEM, "--out", "here").exit_code == 1
    assert RunDirectory.open(Path("here")).finished


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "lattice/phi4_5"), "error: system: "),
        (("run", SYSTEM, "--target-error", -1), "error: target_error: "),
        (("run", SYSTEM, "--settings", "no.toml"), "error: settings: "),
        (("report", "."), "error: run: "),
    ],
)
def test_mistakes_are_one_line_and_code_2(command, args, message):
    result = command(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_unknown_method_is_code_2(command):
    assert command("run", SYSTEM, "--method", "magic").exit_code == 2


def test_a_second_run_does_not_overwrite(command):
    command("run", SYSTEM)
    before = (Path("runs/lattice/phi4_4") / "result.json").read_bytes()
    result = command("run", SYSTEM, "--seed", 1)
    assert result.exit_code == 2
    assert "--resume" in result.stderr
    assert (Path("runs/lattice/phi4_4") / "result.json").read_bytes() == before


def test_ctrl_c_says_how_to_go_on(command, monkeypatch):
    whole = command("run", SYSTEM, "--out", "whole")
    monkeypatch.setenv("INTERRUPT_AT", "3")
    stopped = command("run", SYSTEM, "--out", "cut")
    assert stopped.exit_code == 130
    assert f"helmflow run {SYSTEM} --out cut --resume" in stopped.stderr
    monkeypatch.delenv("INTERRUPT_AT")
    resumed = command("run", SYSTEM, "--out", "cut", "--resume")
    assert resumed.exit_code == 0
    assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1]


def test_a_run_killed_twice_resumes_to_the_same_files(tmp_path):
    assert subprocess_run("run", SYSTEM, "--out", "whole", cwd=tmp_path).returncode == 0
    for moment in ("0", "4"):
        killed = subprocess_run(
            "run", SYSTEM, "--out", "cut", "--resume", cwd=tmp_path, KILL_AT=moment
        )
        assert killed.returncode == -signal.SIGKILL
    resumed = subprocess_run("run", SYSTEM, "--out", "cut", "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    for name in ("metrics.jsonl", "settings.toml", "work.npz"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    cut, whole = (json.loads((tmp_path / run / "result.json").read_text()) for run in RUNS)
    costs = [result.pop("cost") for result in (cut, whole)]
    assert cut == whole
    assert costs[0]["energy_evaluations"] == costs[1]["energy_evaluations"] == 600
    assert not list(tmp_path.rglob("*.tmp"))


def test_resume_starts_a_run_that_never_began(command):
    assert command("run", SYSTEM, "--out", "new", "--resume").exit_code == 0


def test_resume_of_a_finished_run_shows_it(command):
    first = command("run", SYSTEM, "--out", "here", "--seed", 5)
    Path("here/report.html").unlink()
    again = command("run", SYSTEM, "--out", "here", "--resume")
    assert again.stdout == first.stdout
    assert Path("here/report.html").exists()


def test_settings_edited_since_are_noticed(command):
    command("run", SYSTEM, "--out", "here", "--seed", 5)
    file = Path("here/settings.toml")
    file.write_text(file.read_text().replace("seed = 5", "seed = 6"))
    again = command("run", SYSTEM, "--out", "here", "--resume")
    assert again.exit_code == 2
    assert "expected the settings.toml here was started with" in again.stderr


def test_a_full_disk_is_one_line(command, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunDirectory, "write_work", full)
    failed = command("run", SYSTEM, "--out", "here")
    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1] == "failed: [Errno 28] No space left on device"
    monkeypatch.undo()


def test_one_process_at_a_time(command):
    with working_in(Path("here")):
        second = command("run", SYSTEM, "--out", "here")
    assert second.exit_code == 2
    assert "no other process is at work, got here, in use" in second.stderr
    assert not Path("here").exists()
    assert command("run", SYSTEM, "--out", "here").exit_code == 0


def test_a_file_that_has_changed_runs_nothing(command, monkeypatch):
    """Neither when a run is resumed nor when samples are drawn."""
    own = Path("own.toml")
    own.write_text((shipped_folder() / f"{SYSTEM}.toml").read_text())
    assert command("run", own, "--out", "here").exit_code == 0
    own.write_text(own.read_text() + "# changed\n")
    monkeypatch.setattr("helmflow.system.load.build_energy", None)  # which would fail
    for line in (
        ("run", own, "--out", "here", "--resume"),
        ("sample", "here", "--out", "x.npz"),
        ("sample", "here", "--out", "x.extxyz"),
    ):
        refused = command(*line)
        assert refused.exit_code == 2
        assert "a changed system" in refused.stderr


def test_python_without_checks_is_refused(tmp_path):
    code = "from helmflow.cli import app; app(['systems'])"
    call = [sys.executable, "-O", "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: python: expected no option -O")


def test_resume_refuses_other_settings(command):
    command("run", SYSTEM, "--out", "here", "--seed", 5)
    result = command("run", SYSTEM, "--out", "here", "--resume", "--seed", 6)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: seed: expected 5")
    threads = command("run", SYSTEM, "--out", "here", "--resume", "--threads", 2)
    assert threads.exit_code == 0


def test_a_spent_budget_keeps_what_was_finished_and_can_be_raised(command):
    stopped = command("run", SYSTEM, "--out", "here", "--max-evaluations", 350)
    assert stopped.exit_code == 2
    assert "max_evaluations: expected at least 400 to get any further, got 350" in stopped.stderr
    assert f"helmflow run {SYSTEM} --out here --resume --max-evaluations MORE" in stopped.stderr
    assert command("run", SYSTEM, "--out", "here").exit_code == 2
    again = command("run", SYSTEM, "--out", "here", "--resume", "--max-evaluations", 600)
    assert again.exit_code == 0
    assert RunDirectory.open(Path("here")).read_result().cost.energy_evaluations == 600


def test_a_mistake_found_late_leaves_nothing(command, monkeypatch):
    def refuse(self, run):
        run.once("first", lambda stage: 1, Form(lambda _: Kept(), lambda _: 1))
        raise InputError("structure", "a minimum", "a slope")

    monkeypatch.setattr(counting_family.Counting, "estimate", refuse)
    assert command("run", SYSTEM, "--out", "here").exit_code == 2
    assert not Path("here").exists()


def test_settings_that_say_nothing_leave_nothing(command):
    Path("settings.toml").write_text("[sampling]\nnodes = 9\n")
    refused = command("run", SYSTEM, "--settings", "settings.toml", "--out", "here")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error: sampling.nodes: expected none")
    assert not Path("here").exists()


def test_report_is_written_again(command):
    command("run", SYSTEM, "--out", "here")
    Path("here/report.html").unlink()
    result = command("report", "here")
    assert result.exit_code == 0
    assert Path(result.stdout.strip()) == Path("here/report.html")
    assert "ln Z" in Path("here/report.html").read_text()


def test_systems_lists_what_ships(command):
    assert SYSTEM in command("systems").stdout
    rows = json.loads(command("systems", "--json").stdout)
    assert {"name", "summary", "references"} == set(rows[0])
    assert any(row["references"] for row in rows)


@pytest.mark.parametrize(
    "words",
    [
        ("sample", "run", "--out", "x.npz", "--n", "1"),
        ("run", SYSTEM, "--method", "guess"),
        ("run",),
        ("guess",),
        ("run", SYSTEM, "--guess"),
    ],
)
def test_unusable_options_are_one_line(words, command):
    done = command(*words)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_version(command):
    assert command("--version").stdout.startswith("helmflow ")


def test_doctor_finds_this_installation_well():
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "all is well"


def test_live_progress_shows_stage_estimate_and_cost():
    from io import StringIO

    from rich.console import Console

    from helmflow.report.progress import ProgressDisplay

    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with ProgressDisplay(console) as display:
        display(Event("sampling", 1, 4, "lambda 0.25", -25.1631, 2e-3, 12000))
        display._bars.refresh()
    text = screen.getvalue()
    for part in ("sampling", "25%", "lambda 0.25", "-25.163(2)", "12,000 energies"):
        assert part in text
