"""Results as strict JSON, their grade, and the run directory that survives a crash."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from helmflow.errors import InputError
from helmflow.results import (
    Check,
    Event,
    Observable,
    ReferenceDeviation,
    Result,
    RunDirectory,
    grade,
)
from helmflow.settings import Settings
from helmflow.skeleton.run import Run, Stage
from small_runs import RESULT


def test_json_round_trip_keeps_everything():
    assert Result.from_json(RESULT.to_json()) == RESULT
    field = replace(
        RESULT,
        quantity="log_partition_function",
        per="system",
        unit="nat",
        observables=(Observable("phi^2", 0.5, 0.01, 1.2),),
        acceptance=0.7,
        value_exact=9.29,
        kl_exact=1e-3,
        value=math.nan,
        stderr=math.inf,
    )
    again = Result.from_json(field.to_json())
    assert math.isnan(again.value)
    assert again.stderr == math.inf
    assert replace(again, value=0.0) == replace(field, value=0.0)


def test_json_is_strict_and_leaves_out_what_does_not_apply():
    def refuse(name):
        raise ValueError(name)

    data = json.loads(RESULT.to_json(), parse_constant=refuse)
    assert data["schema"] == 1
    assert data["estimates"] == [
        {"method": "fep", "value": -25.1, "stderr": 0.1, "n_eff": 12.0, "pareto_k": "inf"}
    ]
    assert not {"kl_exact", "value_exact", "observables", "acceptance"} & set(data)
    assert "null" not in RESULT.to_json()
    expected = {
        "schema",
        "system",
        "quantity",
        "value",
        "stderr",
        "unit",
        "per",
        "n_particles",
        "convention",
        "method",
        "grade",
        "checks",
        "estimates",
        "references",
        "bounds",
        "cost",
        "seed",
        "versions",
    }
    assert expected <= set(data)


def test_numpy_scalars_are_written_as_numbers():
    data = json.loads(replace(RESULT, value=np.float64(-1.5), seed=np.int64(4)).to_json())
    assert (data["value"], data["seed"]) == (-1.5, 4)


def test_unknown_fields_are_ignored_and_foreign_text_is_refused():
    data = json.loads(RESULT.to_json()) | {"of_a_later_version": 1}
    assert Result.from_json(json.dumps(data)) == RESULT
    for text in ("", "[]", "{}", '{"schema": 1'):
        with pytest.raises(InputError, match=r"^result.json: "):
            Result.from_json(text)


def test_one_line_for_a_person():
    assert str(RESULT) == "F/N = -25.16309(6) kT  (ti+cv; grade A)"
    field = replace(
        RESULT,
        quantity="log_partition_function",
        per="system",
        unit="nat",
        value=9.2914,
        stderr=3e-4,
        method="fep",
        grade="B",
    )
    assert str(field) == "ln Z = 9.2914(3)  (fep; grade B, one-sided)"


def test_deviation_combines_both_errors():
    row = ReferenceDeviation.compare(1.0, 0.03, 1.1, 0.04, "doi")
    assert row.deviation_sigma == pytest.approx(-2.0)
    assert ReferenceDeviation.compare(1.0, 0.1, 1.1, None, "doi").deviation_sigma is None
    assert ReferenceDeviation.compare(1.0, 0.0, 1.0, 0.0, "doi").deviation_sigma == 0.0
    assert ReferenceDeviation.compare(2.0, 0.0, 1.0, 0.0, "doi").deviation_sigma == math.inf


def test_grades():
    passed, soft = Check("a", 1.0, 2.0, True), Check("k-hat", 0.9, 0.7, False)
    hard = Check("overlap", 0.01, 0.03, False, "hard")
    assert grade([passed], one_sided=False)[0] == "A"
    assert grade([passed], one_sided=True)[0] == "B"
    assert grade([passed, soft], one_sided=False)[0] == "C"
    assert grade([passed, soft], one_sided=True)[0] == "C"
    assert grade([soft, soft], one_sided=True)[0] == "D"
    assert "with care" not in grade([soft] * 5, one_sided=False)[1]
    by_chance = Check("halves", 3.0, 2.8, False, chance=0.0027)
    assert "with probability 0.003" in grade([by_chance], one_sided=False)[1]
    letter, reason = grade([passed, soft, hard], one_sided=False)
    assert letter == "F"
    assert "overlap is 0.01 where >= 0.03 is needed" in reason
    assert "k-hat is 0.9 where <= 0.7 is needed" in grade([soft], one_sided=False)[1]
    close = Check("error", 0.100031, 0.1, False)
    assert "error is 0.10003 where <= 0.1 is needed" in grade([close], one_sided=False)[1]


def test_a_directory_in_use_is_never_overwritten(tmp_path):
    RunDirectory.create(tmp_path / "a" / "run", "seed = 0\n", "digest")
    with pytest.raises(InputError, match=r"^out: .*--resume"):
        RunDirectory.create(tmp_path / "a" / "run", "seed = 1\n", "digest")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"^out: "):
        RunDirectory.create(tmp_path / "file", "", "digest")
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty", "", "digest")
    assert RunDirectory.open(tmp_path / "a" / "run").read_settings() == "seed = 0\n"


def test_a_directory_whose_creation_was_killed_is_started_over(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "seed = 0\n", "digest")
    (run.path / "settings.toml").rename(run.path / ".settings.toml.1.tmp")
    assert not RunDirectory.started(run.path)
    RunDirectory.create(run.path, "seed = 1\n", "digest", system="mine.toml")
    assert RunDirectory.started(run.path)
    again = RunDirectory.resume(run.path, "digest")
    assert (again.system, again.read_settings()) == ("mine.toml", "seed = 1\n")
    assert sorted(entry.name for entry in run.path.iterdir()) == ["run.json", "settings.toml"]


def test_resume_checks_the_system_and_the_version(tmp_path):
    path = tmp_path / "run"
    RunDirectory.create(path, "", "digest")
    with pytest.raises(InputError, match=r"^resume: .*changed system"):
        RunDirectory.resume(path, "other")
    (path / "settings.toml").write_text("seed = 1\n")
    with pytest.raises(InputError, match=r"^resume: .*settings.toml .*a changed one"):
        RunDirectory.resume(path, "digest")
    (path / "run.json").write_text('{"digest": "digest", "helmflow": "0.0.0"}')
    with pytest.raises(InputError, match=r"^resume: expected helmflow 0\.0\.0"):
        RunDirectory.resume(path, "digest")
    with pytest.raises(InputError, match=r"^run: "):
        RunDirectory.open(tmp_path)


def test_metrics_go_back_to_what_the_stages_know(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "", "digest")
    run = Run("run", Settings(), directory)
    directory.record(Event("sampling", 1, 9, "λ 0.1", -1.5, math.nan, 10, {"loss": 2.0}))
    Stage(run, "first").save({"x": torch.ones(2)}, {"round": 1})
    directory.record(Event("sampling", 2, 9))
    with open(directory.path / "metrics.jsonl", "ab") as file:
        file.write(b'{"stage": "samp')
    assert len(directory.read_metrics()) == 2
    again = RunDirectory.resume(directory.path, "digest")
    tensors, facts = Stage(Run("run", Settings(), again), "first").load()
    assert torch.equal(tensors["x"], torch.ones(2))
    assert facts == {"round": 1}
    assert again.read_metrics() == [
        {
            "stage": "sampling",
            "completed": 1,
            "total": 9,
            "detail": "λ 0.1",
            "value": -1.5,
            "stderr": "nan",
            "energy_evaluations": 10,
            "loss": 2.0,
        }
    ]


def test_without_a_stage_a_run_starts_over(tmp_path):
    directory = RunDirectory.create(tmp_path / "run", "", "digest")
    directory.record(Event("sampling", 1, 9))
    assert Stage(Run("run", Settings(), directory), "first").load() is None
    assert directory.read_metrics() == []


def test_work_is_plain_arrays(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "", "digest")
    assert run.read_work() == {}
    arrays = {"lam": np.linspace(0, 1, 3), "node": np.array([0, 2, 1])}
    run.write_work(arrays)
    loaded = run.read_work()
    assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)
    with pytest.raises(ValueError, match="allow_pickle"):
        run.write_work({"bad": np.array([{}, None])})
    assert set(run.read_work()) == {"lam", "node"}


def test_an_unfinished_run_has_no_result(tmp_path):
    run = RunDirectory.create(tmp_path / "run", "", "digest")
    with pytest.raises(InputError, match="no result yet"):
        run.read_result()
    run.write_result(RESULT)
    assert run.finished
    assert run.read_result() == RESULT
