"""`helmflow density`: a flow fitted to sampled angles, basins with errors, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from helmflow.cli import app
from helmflow.errors import InputError
from helmflow.recipes.density import likelihood
from helmflow.recipes.density.from_samples import fit_samples
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
    for basins, text in ((two, "array x"), (["--basin", "a=0-90"], "alpha=")):
        done = CliRunner().invoke(app, ["density", str(file), *basins])
        assert done.exit_code == 2
        assert text in done.output
