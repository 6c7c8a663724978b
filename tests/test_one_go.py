"""Directories of runs that cannot be resumed."""

import pytest

from helmflow.errors import ConvergenceError, InputError
from helmflow.results import RunDirectory, in_one_go
from test_results import RESULT


def killed(path, seed):
    """As a process leaves it that is killed after its first files."""
    run = RunDirectory.create(path, f"seed = {seed}\n", "digest", resumable=False)
    (path / ".lock").touch()
    for name in ("work.npz", "flow.safetensors"):
        (path / name).write_bytes(b"")
    (path / ".work.npz.1.tmp").write_bytes(b"")
    return run


def test_what_a_killed_run_left_gives_way(tmp_path):
    killed(tmp_path / "run", 1)
    with in_one_go(tmp_path / "run", "seed = 2\n", "other") as run:
        assert run.read_settings() == "seed = 2\n"
        run.write_result(RESULT)
    names = {entry.name for entry in run.path.iterdir()}
    assert names == {"run.json", "settings.toml", "result.json"}
    with (
        pytest.raises(InputError, match="out: expected a new or empty directory, got"),
        in_one_go(run.path, "", "digest"),
    ):
        pass
    assert run.read_settings() == "seed = 2\n"


def test_a_run_that_is_computed_now_is_left_alone(tmp_path):
    with in_one_go(tmp_path / "run", "seed = 1\n", "digest") as run:
        with (
            pytest.raises(InputError, match="in use by a running one"),
            in_one_go(tmp_path / "run", "seed = 2\n", "digest"),
        ):
            pass
        assert run.read_settings() == "seed = 1\n"
        run.write_result(RESULT)


def test_what_is_not_such_a_run_is_left_alone(tmp_path):
    killed(tmp_path / "with_notes", 1)
    (tmp_path / "with_notes" / "notes.txt").write_text("mine")
    RunDirectory.create(tmp_path / "resumable", "", "digest")
    (tmp_path / "file").write_text("mine")
    for name in ("with_notes", "resumable", "file"):
        with (
            pytest.raises(InputError, match=r"out: expected a new or empty directory, got .*use"),
            in_one_go(tmp_path / name, "", "digest"),
        ):
            pass
    assert (tmp_path / "with_notes" / "work.npz").exists()
    assert (tmp_path / "resumable" / "settings.toml").exists()


@pytest.mark.parametrize("error", [ConvergenceError("no", 0.0), KeyboardInterrupt()])
def test_nothing_is_left_of_a_run_that_failed(error, tmp_path):
    def fail():
        with in_one_go(tmp_path / "run", "", "digest") as run:
            run.write_work({})
            raise error

    with pytest.raises(type(error)):
        fail()
    assert not (tmp_path / "run").exists()
