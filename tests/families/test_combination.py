"""Sums of legs, repeats, terms and cycles."""

import json
import math

import pytest
from typer.testing import CliRunner

from helmflow.cli import app
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.families.combination import Boresch, StandardState, combined, read_combination
from helmflow.families.two_states.difference import difference
from helmflow.results import Check
from helmflow.skeleton.quantity import Finding
from helmflow.skeleton.run import Run

HEAD = 'name = "binding"\ntemperature = 300.0\n'


def write_run(folder, value, stderr, *, temperature=300.0, failed=""):
    """A finished run; ``failed``: the severity of a check that failed."""
    checks = (Check("of a test", 2.0, 1.0, False, failed),) if failed else ()
    finding = Finding(Estimate(value, stderr, 100.0, "bar"), checks, {})
    result = Run.in_memory("leg", 0).conclude(difference("f_B - f_A", temperature), finding)
    folder.mkdir()
    (folder / "result.json").write_text(result.to_json())
    return folder.name


def legs(folder, *rows, more=""):
    """``rows``: name, names of runs and sign."""
    text = HEAD + more
    for name, runs, times in rows:
        text += f'[[legs]]\nname = "{name}"\nruns = {json.dumps(runs)}\ntimes = {times}\n'
    path = folder / "legs.toml"
    path.write_text(text)
    return path


def result_of(path):
    return combined(read_combination(path), path.parent)


def test_a_sum_with_its_error(tmp_path):
    a, b = write_run(tmp_path / "a", 5.0, 0.3), write_run(tmp_path / "b", 2.0, 0.4)
    found = result_of(legs(tmp_path, ("one", [a], 1), ("two", [b], -1)))
    assert (found.value, found.stderr) == (pytest.approx(3.0), pytest.approx(0.5))
    assert found.grade == "A"
    assert [(o.name, o.value) for o in found.observables] == [("one", 5.0), ("two", -2.0)]


@pytest.mark.parametrize(("off", "grade"), [(0.1, "A"), (0.9, "C"), (2.0, "F")])
def test_repeats(tmp_path, off, grade):
    runs = [write_run(tmp_path / str(k), 1.0 + off * k, 0.2) for k in range(2)]
    found = result_of(legs(tmp_path, ("one", runs, 1)))
    assert found.value == pytest.approx(1.0 + off / 2)
    chi2 = 2.0 * (off / 2 / 0.2) ** 2
    assert found.stderr == pytest.approx(0.2 / math.sqrt(2.0) * math.sqrt(max(chi2, 1.0)))
    assert found.grade == grade


@pytest.mark.parametrize(("severity", "grade"), [("soft", "C"), ("hard", "F")])
def test_a_leg_costs_its_grade(tmp_path, severity, grade):
    runs = [write_run(tmp_path / "a", 1.0, 0.1, failed=severity)]
    assert result_of(legs(tmp_path, ("one", runs, 1))).grade == grade


@pytest.mark.parametrize(("off", "grade"), [(0.1, "A"), (3.0, "F")])
def test_a_cycle_closes(tmp_path, off, grade):
    a, b = write_run(tmp_path / "a", 5.0 + off, 0.3), write_run(tmp_path / "b", 5.0, 0.3)
    path = legs(tmp_path, ("one", [a], 1), ("two", [b], -1), more="cycle = true\n")
    assert result_of(path).grade == grade


def test_terms():
    """Boresch's formula in kcal/mol and angstrom; a volume of 1 mol/L changes nothing."""
    kT = 0.0019872 * 300.0
    volume, r, k = 1660.539, 5.0, (10.0, 100.0, 90.0, 80.0, 70.0, 60.0)
    a, b = math.radians(80.0), math.radians(110.0)
    held = r**2 * math.sin(a) * math.sin(b) * (2.0 * math.pi * kT) ** 3 / math.sqrt(math.prod(k))
    expected = -math.log(8.0 * math.pi**2 * volume / held)
    constants = (k[0] * 418.4, *(4.184 * x for x in k[1:]))
    term = Boresch(kind="boresch", distance=0.5, angles=(80.0, 110.0), force_constants=constants)
    assert term.value(4.184 * kT) == pytest.approx(expected, rel=1e-5)
    assert -18.0 < expected < -13.0  # about -10 kcal/mol, as such restraints have
    same = StandardState(kind="standard_state", volume=1.660539)
    assert same.value(1.0) == pytest.approx(0.0, abs=1e-6)


MISTAKES = {
    "finished runs": lambda folder: legs(folder, ("one", ["nothing"], 1)),
    "one temperature": lambda folder: legs(
        folder, ("one", [write_run(folder / "a", 1.0, 0.1, temperature=350.0)], 1)
    ),
    "an error that is finite": lambda folder: legs(
        folder, ("one", [write_run(folder / "a", 1.0, math.inf)], 1)
    ),
    "times": lambda folder: legs(folder, ("one", ["a"], 2)),
    "magic": lambda folder: legs(folder, ("one", ["a"], 1), more='[[terms]]\nkind = "magic"\n'),
}


@pytest.mark.parametrize("expected", MISTAKES)
def test_mistakes(tmp_path, expected):
    with pytest.raises(InputError, match=expected) as caught:
        result_of(MISTAKES[expected](tmp_path))
    assert "\n" not in str(caught.value)


def test_the_command(tmp_path):
    path = legs(tmp_path, ("one", [write_run(tmp_path / "a", 5.0, 0.3)], 1))
    words = ["combine", str(path), "--out", str(tmp_path / "out"), "--unit", "kcal/mol"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "Delta F = 2.98(18) kcal/mol  (sum of legs; grade A)" in done.stdout
    assert (tmp_path / "out" / "report.html").is_file()
