"""Free energies from numbers that others have computed: exact answers, pymbar, mistakes."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pymbar
import pytest
from typer.testing import CliRunner

from assertions import assert_calibrated, assert_consistent
from exact import autoregressive
from helmflow import InputError, estimate, read_potentials
from helmflow.cli import app
from helmflow.data import SampledPotentials, Slopes

K = np.array([1.0, 2.0, 4.0, 8.0])
"""Stiffnesses of harmonic states of three coordinates: f = 3/2 ln k."""

EXACT = 1.5 * math.log(8.0)


def harmonic(n=400, seed=0, rho=0.0, states=K):
    """Potentials and slopes du/dlambda with k = 1 + 7 lambda."""
    rng = np.random.default_rng(seed)
    tables, slopes = [], []
    for k in states:
        x = autoregressive(rng, 3, n, rho) / math.sqrt(k)
        square = 0.5 * (x**2).sum(0)
        tables.append(square[:, None] * states)
        slopes.append(7.0 * square[:, None])
    lambdas = ((states - 1.0) / 7.0)[:, None]
    labels = tuple(f"{x:g}" for x in lambdas[:, 0])
    return SampledPotentials(tuple(tables), labels, 300.0, Slopes(lambdas, tuple(slopes)))


def frame(data):
    """As alchemlyb has them."""
    columns = [float(label) for label in data.labels]
    parts = [
        pd.DataFrame(
            table,
            columns=columns,
            index=pd.MultiIndex.from_product(
                [np.arange(float(len(table))), [column]], names=["time", "fep-lambda"]
            ),
        )
        for column, table in zip(columns, data.potentials, strict=True)
    ]
    together = pd.concat(parts)
    together.attrs = {"temperature": 300, "energy_unit": "kT"}
    return together


def test_the_exact_answer_by_three_estimators():
    found = estimate(harmonic()).result
    assert found.grade == "A"
    assert_consistent(found.value, found.stderr, EXACT, resolve=0.4)
    rows = {row.method: row for row in found.estimates}
    assert set(rows) == {"mbar", "bar, summed", "ti"}
    for row in rows.values():  # the integral knows that four nodes are few
        resolve = 3.0 if row.method == "ti" else 0.4
        assert_consistent(row.value, row.stderr, EXACT, resolve=resolve)
    assert [o.name for o in found.observables][-1] == "f(1) - f(0)"
    assert found.observables[-1].value == pytest.approx(found.value)
    assert {u.unit for u in found.other_units} >= {"kJ/mol", "kcal/mol"}


@pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning")
def test_all_data_of_independent_samples_give_what_pymbar_gives():
    data = harmonic(seed=3)
    ours = estimate(data, equilibrate=False).result
    u_kn = np.concatenate(data.potentials).T
    theirs = pymbar.MBAR(u_kn, [400] * 4).compute_free_energy_differences()
    assert ours.value == pytest.approx(theirs["Delta_f"][0, -1], abs=1e-6)
    # bars of ours are the larger of two, and know the correlation that shows
    assert theirs["dDelta_f"][0, -1] * 0.9 < ours.stderr < theirs["dDelta_f"][0, -1] * 1.4


def test_error_bars_of_correlated_data_are_calibrated():
    z = []
    for seed in range(40):
        found = estimate(harmonic(400, seed, rho=0.8)).result
        z.append((found.value - EXACT) / found.stderr)
    assert_calibrated(np.array(z))


def test_potentials_of_neighbours_are_enough():
    data = harmonic()
    tables = [table.copy() for table in data.potentials]
    for k, table in enumerate(tables):
        table[:, [j for j in range(4) if abs(j - k) > 1]] = np.nan
    found = estimate(replace(data, potentials=tuple(tables), slopes=None)).result
    assert found.method == "bar, summed"
    assert found.grade == "A"
    assert_consistent(found.value, found.stderr, EXACT, resolve=0.5)


def test_forward_and_backward_runs_of_a_state_are_put_together():
    """NAMD: half of the samples of a state know the next state, half the one before."""
    data = harmonic(800)
    tables = []
    for k, table in enumerate(data.potentials):
        table = table.copy()
        table[::2, [j for j in range(4) if j not in (k, k + 1)]] = np.nan
        table[1::2, [j for j in range(4) if j not in (k, k - 1)]] = np.nan
        tables.append(table)
    found = estimate(replace(data, potentials=tuple(tables), slopes=None)).result
    assert_consistent(found.value, found.stderr, EXACT, resolve=0.6)
    assert found.grade == "A"


@pytest.mark.parametrize("missing", [(1,), (3,), (0,), (0, 3)])
def test_states_without_samples(missing):
    z = []
    for seed in range(20):
        data = harmonic(300, seed)
        tables = tuple(t[:0] if k in missing else t for k, t in enumerate(data.potentials))
        found = estimate(replace(data, potentials=tables, slopes=None))
        z.append((found.result.value - EXACT) / found.result.stderr)
        assert found.states.f_k.shape == (4,)
    assert np.abs(z).max() < 5.0
    assert 0.3 < np.mean(np.square(z)) < 2.2  # chi-squared of 20: 1 in 1000 either way


def test_another_unit_is_no_a():
    data = harmonic(1000)
    tables = tuple(2.494 * table for table in data.potentials)
    assert estimate(replace(data, potentials=tables)).result.grade == "F"


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_files_of_arrays(tmp_path, suffix):
    data = harmonic()
    path = tmp_path / f"u.{suffix}"
    if suffix == "csv":
        frame(data).to_csv(path)
        path.write_text("# temperature = 300\n" + path.read_text())
    elif suffix == "parquet":
        frame(data).to_parquet(path)
    else:
        np.savez(path, u_kn=np.concatenate(data.potentials).T, N_k=[400] * 4)
    read = read_potentials([path], 300.0)
    assert read.temperature == 300.0
    expected = estimate(replace(data, slopes=None)).result
    assert estimate(read).result.value == pytest.approx(expected.value, rel=1e-12)


def test_frames_in_any_order_with_restarts_and_in_other_units():
    data = replace(harmonic(), slopes=None)
    whole, kT = frame(data), 8.314462618e-3 * 300.0
    mixed = kT * pd.concat([whole.iloc[::-1], whole.iloc[:100]])[whole.columns[[3, 0, 2, 1]]]
    mixed.attrs = {"temperature": 300, "energy_unit": "kJ/mol"}
    found, expected = estimate(mixed).result, estimate(whole).result
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    assert found.stderr == pytest.approx(expected.stderr, rel=1e-6)


def test_works(tmp_path):
    data = harmonic(states=K[:2])
    w_F, w_R = (t[:, 1 - k] - t[:, k] for k, t in enumerate(data.potentials))
    found = estimate(replace(data, slopes=None)).result
    np.savez(tmp_path / "w.npz", w_F=w_F, w_R=w_R)
    pd.DataFrame({"w_F": pd.Series(w_F), "w_R": pd.Series(w_R)}).to_csv(tmp_path / "w.csv")
    for name in ("w.npz", "w.csv"):
        read = read_potentials([tmp_path / name])
        assert estimate(read).result.value == pytest.approx(found.value)


MISTAKES = {
    "an index of time and lambdas": lambda whole: whole.T,
    "columns named by lambdas": lambda whole: whole.rename(columns={0.0: "start"}),
    "samples of states that are columns": lambda whole: whole.drop(columns=[1.0]),
    "energies in kT, or a known unit": lambda whole: _with(whole, {"energy_unit": "stone"}),
    "kelvin": lambda whole: _with(whole, {"temperature": -3.0}),
    "samples of at least two states": lambda whole: whole.iloc[:400],
    "at least 4 samples of a state": lambda whole: whole.iloc[:-398],
}


def _with(whole, attrs):
    changed = whole.copy()
    changed.attrs = {**whole.attrs, **attrs}
    return changed


@pytest.mark.parametrize("expected", MISTAKES)
def test_mistakes_are_told_in_a_line(expected):
    with pytest.raises(InputError, match=expected) as caught:
        estimate(MISTAKES[expected](frame(harmonic())))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("u.npz", b"nothing", "a readable .npz"),
        ("u.csv", b"a,b\n1,2\n", "columns w_F and w_R, or time"),
        ("u.parquet", b"PAR", "a readable .parquet"),
        ("u.nc", b"CDF", "netCDF"),
        ("u.xvg", b"@ nothing", "energies of all states"),
        ("u.out", b"", "energies of all states"),
        ("u.fepout", b"", "energies of all states"),
        ("u.txt", b"", "files of one program"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        read_potentials([path], 300.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"u_kn": np.zeros((0, 0)), "N_k": np.zeros(0)},
        {"u_kn": np.zeros((2, 8)) * 1j, "N_k": [4, 4]},
        {"u_kn": np.zeros((2, 8)), "N_k": [-1, 9]},
        {"u_kn": np.array([["a", "b"]]), "N_k": [2]},
        {"something": np.zeros(3)},
    ],
)
def test_arrays_that_mean_nothing(tmp_path, arrays):
    np.savez(tmp_path / "u.npz", **arrays)
    with pytest.raises(InputError):
        read_potentials([tmp_path / "u.npz"])


def test_what_is_no_data():
    for data in ({"a": 1}, [1, 2], None):
        with pytest.raises(InputError, match="a frame of pandas"):
            estimate(data)
    words = frame(harmonic(10)).astype(object)
    words.iloc[3, 1] = "much"
    with pytest.raises(InputError, match="real numbers"):
        estimate(words)


def test_a_state_far_from_all_samples_is_no_a():
    stiff = np.array([1.0, 2.0, 60.0])
    rng = np.random.default_rng(0)
    tables = [
        0.5 * (rng.normal(size=(n, 3)) ** 2 / k).sum(1)[:, None] * stiff
        for n, k in ((300, 1.0), (300, 2.0), (0, 60.0))
    ]
    found = estimate(SampledPotentials(tuple(tables), ("0", "1", "2"))).result
    assert found.grade in "CDF"
    assert "weights that count" in found.reason or "pareto k" in found.reason


def test_transposed_arrays_are_recognised(tmp_path):
    data = harmonic()
    path = tmp_path / "u.npz"
    np.savez(path, u_kn=np.concatenate(data.potentials), N_k=[400] * 4)
    with pytest.raises(InputError, match="whole numbers"):
        read_potentials([path])
    with pytest.raises(InputError, match="files that are there"):
        read_potentials([tmp_path / "no.csv"])
    path = tmp_path / "u.xvg"
    path.write_text("")
    with pytest.raises(InputError, match="kelvin"):
        read_potentials([path])


XVG = """@    title "dH/d\\xl\\f{{}} and \\xD\\f{{}}H"
@    xaxis  label "Time (ps)"
@    yaxis  label "dH/d\\xl\\f{{}} and \\xD\\f{{}}H (kJ/mol [\\xl\\f{{}}]\\S-1\\N)"
@TYPE xy
@ subtitle "T = 300 (K) \\xl\\f{{}} state {k}: fep-lambda = {lam:.4f}"
@ s0 legend "dH/d\\xl\\f{{}} fep-lambda = {lam:.4f}"
"""


def xvg(data, k):
    """What GROMACS writes of a state: time, slope and differences of energy, kJ/mol."""
    kT = 8.314462618e-3 * 300.0
    text = XVG.format(k=k, lam=float(data.labels[k]))
    for j, label in enumerate(data.labels):
        text += f'@ s{j + 1} legend "\\xD\\f{{}}H \\xl\\f{{}} to {float(label):.4f}"\n'
    table = data.potentials[k]
    rows = np.column_stack(
        [np.arange(len(table)), kT * data.slopes.values[k], kT * (table - table[:, [k]])]
    )
    return text + "\n".join(" ".join(f"{x:.9g}" for x in row) for row in rows) + "\n"


def test_files_of_gromacs(tmp_path):
    data = harmonic()
    data = replace(data, labels=("0", "0.1429", "0.4286", "1"))
    for k in range(4):
        (tmp_path / f"{k}.xvg").write_text(xvg(data, k))
    read = read_potentials(sorted(tmp_path.glob("*.xvg")), 300.0)
    assert read.labels == data.labels
    found, expected = estimate(read).result, estimate(data).result
    assert found.value == pytest.approx(expected.value, abs=1e-5)
    rows = {row.method: row.value for row in found.estimates}
    assert rows["ti"] == pytest.approx(EXACT, abs=2.0)
    with pytest.raises(InputError, match="temperature"):
        read_potentials(sorted(tmp_path.glob("*.xvg")), 350.0)


def test_replicas_are_sorted_into_states(tmp_path):
    import netCDF4

    data, rng = harmonic(), np.random.default_rng(5)
    n, k = 400, 4
    states = np.array([rng.permutation(k) for _ in range(n)])
    energies = np.array([[data.potentials[s][t] for s in row] for t, row in enumerate(states)])
    path = tmp_path / "run.nc"
    with netCDF4.Dataset(str(path), "w") as file:
        for name, size in (("iteration", n + 1), ("replica", k), ("state", k), ("scalar", 1)):
            file.createDimension(name, size)
        last = file.createVariable("last_iteration", "i8", ("scalar",))
        u = file.createVariable("energies", "f8", ("iteration", "replica", "state"))
        at = file.createVariable("states", "i4", ("iteration", "replica"))
        last[0] = n
        u[0], at[0] = 1e3, np.zeros(k)  # the start, which nobody sampled
        u[1:], at[1:] = energies, states
    found = estimate(read_potentials([path])).result
    assert found.value == pytest.approx(estimate(replace(data, slopes=None)).result.value)
    assert found.grade == "A"


def test_the_command(tmp_path):
    data = harmonic()
    frame(data).to_parquet(tmp_path / "u.parquet")
    words = ["estimate", str(tmp_path / "u.parquet"), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*words, "--unit", "kcal/mol"])
    assert done.exit_code == 0, done.output
    assert re.search(r"Delta F = \d\.\d+\(\d+\) kcal/mol  \(mbar; grade A\)", done.stdout)
    assert "f(1) - f(0)" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert abs(result["value"] - EXACT) < 5.0 * result["stderr"]
    assert "Overlap of states" in (tmp_path / "run" / "report.html").read_text()
    for more, expected in (
        (["--burn-in", "some"], "burn-in: expected auto or none"),
        (["--temperature", "500"], "temperature: expected 300 K"),
        ([str(tmp_path / "no.xvg")], "files: expected files that are there"),
    ):
        wrong = CliRunner().invoke(app, [*words[:2], *more, "--out", str(tmp_path / "other")])
        assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1), wrong.output
        assert expected in wrong.stderr
        assert not (tmp_path / "other").exists()


def test_few_samples_are_all_kept():
    found = estimate(harmonic(10)).result
    (check,) = [c for c in found.checks if c.name == "frames before equilibrium"]
    assert check.value == 0.0
    assert found.grade != "A"
    assert abs(found.value - EXACT) < 5.0 * found.stderr
