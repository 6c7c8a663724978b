"""`helmflow density`: a flow fitted to sampled angles, basins with errors, and what is refused."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from helmflow.bijectors.base import Chain
from helmflow.cli import app
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.errors import InputError
from helmflow.estimators.estimate import Estimate
from helmflow.estimators.reweighting import kish_ess
from helmflow.families.density import from_samples, likelihood
from helmflow.families.density.from_samples import fit_samples
from helmflow.manifolds.torus import Torus
from helmflow.skeleton.kept import read_flow
from helmflow.system.shipped import shipped_folder

SHARES = (0.75, 0.25)
CENTRES = ((1.0, 2.0), (4.0, 5.5))
BASINS = {"a": [(0.0, 2.5), (0.5, 3.5)], "b": [(2.5, 2.0 * math.pi), (4.0, 0.5)]}


@pytest.fixture(autouse=True)
def short_fit(monkeypatch):
    monkeypatch.setattr(likelihood, "SIZES", ((6, 8),))
    monkeypatch.setattr(likelihood, "ROUNDS", 5)


def two_modes(rng, n_chains=3, n=1200):
    """Independent angles (chains, n, 2) of two von Mises modes."""
    which = (rng.random((n_chains, n)) < SHARES[1]).astype(int)
    centre = np.array(CENTRES)[which]
    return np.mod(rng.vonmises(centre, 8.0), 2.0 * math.pi)


def exact_difference():
    """ln of the ratio of the shares; what leaks out of the boxes is below 1e-3."""
    return math.log(SHARES[0] / SHARES[1])


def test_difference_and_density(rng):
    found = fit_samples(two_modes(rng), BASINS, seed=1)
    result = found.result
    assert abs(result.value - exact_difference()) < 5.0 * result.stderr
    assert 0.03 < result.stderr < 0.06
    rows = {row.name: row for row in result.observables}
    assert abs(rows["probability of a"].value - 0.75) < 5.0 * rows["probability of a"].stderr
    kappa_entropy = math.log(2.0 * math.pi * np.i0(8.0)) - 8.0 * 0.9352  # one von Mises angle
    exact = -2.0 * kappa_entropy + sum(p * math.log(p) for p in SHARES)
    held_out = rows["<ln q> held out"]
    assert exact - 0.35 < held_out.value < exact + 5.0 * held_out.stderr
    nodes = torch.linspace(0.0, 2.0 * math.pi, 121, dtype=torch.float64)[:-1]
    with torch.no_grad():
        q = found.flow.log_prob(torch.cartesian_prod(nodes, nodes)).exp()
    assert abs(float(q.mean()) * (2.0 * math.pi) ** 2 - 1.0) < 2e-2
    assert found.arrays["surface_flow"].shape == (60, 60)


def test_a_bias_is_undone_by_log_weights(rng):
    x = two_modes(rng)
    bias = 1.0 * np.cos(x[..., 0] - 1.0)
    keep = rng.random(x.shape[:2]) < np.exp(-bias - 1.0)
    n = keep.sum(1).min()
    x = np.stack([chain[kept][:n] for chain, kept in zip(x, keep, strict=True)])
    result = fit_samples(x, BASINS, log_weights=np.cos(x[..., 0] - 1.0), seed=1).result
    assert abs(result.value - exact_difference()) < 5.0 * result.stderr


def test_the_shipped_torsions_by_the_command(tmp_path):
    out = tmp_path / "run"
    file = shipped_folder() / "alanine_dipeptide" / "torsions.npz"
    basins = ["beta=-180:0,60:-120", "alpha_R=-180:0,-120:60", "alpha_L=0:130,-60:120"]
    options = [word for basin in basins for word in ("--basin", basin)]
    done = CliRunner().invoke(app, ["density", str(file), *options, "--out", str(out)])
    assert done.exit_code == 0, done.output
    result = json.loads((out / "result.json").read_text())
    assert abs(result["value"] - 0.67) < 4.0 * result["stderr"]
    assert result["stderr"] < 0.12
    page = (out / "report.html").read_text()
    assert "The surface by the flow and by the histogram" in page
    assert "nan" not in page.lower().split("<script")[0]


def test_the_flow_is_kept_and_drawn_from(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(likelihood, "ROUNDS", 1)
    monkeypatch.setattr(likelihood, "STEPS", 2)
    file, run, out = tmp_path / "x.npz", tmp_path / "run", tmp_path / "y.npz"
    np.savez(file, x=two_modes(rng, n=200))
    basins = ["--basin", "a=0:143,28:200", "--basin", "b=143:360,229:28"]
    CliRunner().invoke(app, ["density", str(file), *basins, "--out", str(run)])
    done = CliRunner().invoke(app, ["sample", str(run), "--n", "50", "--out", str(out)])
    assert done.exit_code == 0, done.output
    with np.load(out) as archive:
        x, log_q = (torch.from_numpy(archive[key]) for key in ("x", "log_q"))
    assert x.shape == (50, 2)
    flow, _ = likelihood.FORM.unpack(read_flow(run, [likelihood.KIND], {}))
    assert (flow.log_prob(x) - log_q).abs().max() < 1e-9
    other = str(tmp_path / "z.npz")
    done = CliRunner().invoke(app, ["sample", str(run), "--weights", "--out", other])
    assert done.exit_code == 2
    assert "known by its samples alone" in done.output
    (run / "flow.safetensors").unlink()
    done = CliRunner().invoke(app, ["sample", str(run), "--out", other])
    assert done.exit_code == 2
    assert "keeps a flow" in done.output


def test_mistakes(rng, tmp_path):
    x = two_modes(rng, n=60)
    with pytest.raises(InputError, match="basins"):
        fit_samples(x, {"a": BASINS["a"]})
    with pytest.raises(InputError, match="basins"):
        fit_samples(x, {"a": [(0.0, 1.0)], "b": [(1.0, 2.0)]})
    with pytest.raises(InputError, match="angles"):
        fit_samples(x - 7.0, BASINS)
    with pytest.raises(InputError, match="log_weights"):
        fit_samples(x, BASINS, log_weights=np.full(x.shape[:2], math.nan))
    with pytest.raises(InputError, match="x:"):
        fit_samples(x[0], BASINS)
    file = tmp_path / "x.npz"
    np.savez(file, y=x)
    two = ["--basin", "a=0:90,0:90", "--basin", "b=90:180,0:90"]
    twice = ["--basin", "a=0:90,0:90", "--basin", "a=90:180,0:90"]
    for basins, text in (
        (two, "'y'"),
        (["--basin", "a=0-90"], "alpha="),
        (twice, "the name a"),
        (["--basin", "a=0:nan,0:90", "--basin", "b=90:180,0:90"], "degrees"),
        (["--basin", "a=0:400,0:90", "--basin", "b=90:180,0:90"], "degrees"),
    ):
        done = CliRunner().invoke(app, ["density", str(file), *basins])
        assert done.exit_code == 2
        assert text in done.output
    for arrays, text in (
        ({"x": x, "log_weight": x[..., 0]}, "did you mean 'log_weights'?"),
        ({"x": x, "bias": x[0]}, "'bias'"),
        ({"x": np.degrees(x)}, "radians"),
        ({"log_weights": x[..., 0]}, "array x"),
        ({"x": x.astype(str)}, "numbers"),
    ):
        np.savez(file, **arrays)
        done = CliRunner().invoke(app, ["density", str(file), *two])
        assert done.exit_code == 2
        assert text in done.output
    with pytest.raises(InputError, match="basins"):
        fit_samples(x, {"a": [(0.0, 90.0), (0.0, 90.0)], "b": BASINS["b"]})


def test_weights_are_judged(rng, monkeypatch):
    """Weights that a few samples dominate give no A; even ones change nothing."""
    x = two_modes(rng, n=400)
    flow = Flow(Uniform(Torus(2)), Chain([]))
    fit = likelihood.Fit("none", 0.0, Estimate(0.0, 1.0, 9.0, "held out", {}, "nat"), -1.0)
    monkeypatch.setattr(from_samples, "fit_likelihood", lambda *_: (flow, fit))
    even = fit_samples(x, BASINS, log_weights=np.full(x.shape[:2], 3.0), seed=1).result
    plain = fit_samples(x, BASINS, seed=1).result
    assert even.estimates == plain.estimates
    assert "pareto k" not in {check.name for check in even.checks}
    log_w = 4.0 * rng.standard_normal(x.shape[:2])
    wild = fit_samples(x, BASINS, log_weights=log_w, seed=1).result
    checks = {check.name: check for check in wild.checks}
    assert checks["weights that count"].value == pytest.approx(kish_ess(log_w.ravel()))
    assert not checks["pareto k"].passed
    assert wild.grade not in "AB"
    assert wild.estimates[0].n_eff < 50.0


def test_the_held_out_part_is_the_last_of_every_chain():
    """What a flow was fitted to, or stopped by, must not enter its score."""
    x = np.full((2, 100, 1), 1.0)
    x[:, 85:] = 2.0 + 0.1 * np.random.default_rng(0).random((2, 15, 1))
    first = SimpleNamespace(log_prob=lambda points: points[:, 0])
    found = likelihood._held_out(first, x, np.zeros((2, 100)))
    assert found.value == pytest.approx(float(x[:, 85:].mean()))
