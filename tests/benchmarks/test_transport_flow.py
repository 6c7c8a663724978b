"""Fitted transport flows: effective sample size, free energies, structure, cost.

    python -m pytest tests/benchmarks -m benchmark -s -k transport

Flows are fitted to the smallest crystal of each kind and used at every size.
"""

import time
from functools import cache

import numpy as np
import pytest
import torch

from benchmarks.rows import ROWS
from helmflow.densities.flow import Flow
from helmflow.estimators.diagnostics import pareto_k
from helmflow.estimators.reweighting import kish_ess
from helmflow.families import run
from helmflow.families.flow.path_samples import fit_coefficients, sample_path
from helmflow.families.flow.recipe import MadeFlow
from helmflow.families.flow.transport import TransportRecipe, transport_flow
from helmflow.families.path.base import build_base
from helmflow.families.path.crystal_problem import CrystalProblem
from helmflow.results import RunDirectory
from helmflow.settings import FlowSettings, Settings
from helmflow.skeleton.kept import write_kept
from helmflow.skeleton.run import Run
from helmflow.skeleton.weighted import draw
from helmflow.streams import stream
from helmflow.system import load_system
from large_crystals import larger_ice

SETTINGS = Settings(method="flow", flow=FlowSettings(kind="transport"))
SAMPLES = 20_000
SOURCES = {
    "ice/mw_cubic": "ice/mw_cubic_64",
    "ice/mw_hexagonal": "ice/mw_hexagonal_64",
    "lennard_jones/fcc": "lennard_jones/fcc_108",
}
LEAST = {
    "ice/mw_cubic_64": 0.93,
    "ice/mw_hexagonal_64": 0.89,
    "ice/mw_cubic_216": 0.78,
    "ice/mw_cubic_512": 0.55,
    "ice/mw_cubic_1728": 0.10,
    "lennard_jones/fcc_108": 0.40,
    "lennard_jones/fcc_256": 0.15,
    "lennard_jones/fcc_500": 0.05,
}


def source_of(name):
    return SOURCES[name.rpartition("_")[0]]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Path of the fitted flow of a kind of crystal, and the processor seconds it took."""

    @cache
    def fit(name):
        torch.set_num_threads(1)
        path = tmp_path_factory.mktemp("flows") / "flow.safetensors"
        start = time.process_time()
        problem = CrystalProblem(load_system(name))
        base, _ = build_base(problem, SETTINGS)
        recipe = TransportRecipe(problem, base, Run("fit", SETTINGS), 1.0)
        found = sample_path(problem, base, recipe.run)
        coefficients = fit_coefficients(found.samples).coefficients
        flow = transport_flow(base, found.fields, coefficients, 1)
        write_kept(path, recipe.form.pack(MadeFlow(Flow(base, flow), flow, flow)), {})
        return path, time.process_time() - start

    fit("lennard_jones/fcc_32"), fit("ice/mw_hexagonal_8")  # compiles
    return fit


@pytest.mark.benchmark
@pytest.mark.parametrize("name", LEAST)
def test_effective_sample_size(name, fitted, tmp_path):
    path, fit_seconds = fitted(source_of(name))
    system = larger_ice(tmp_path, 6) if name.endswith("1728") else load_system(name)
    problem = CrystalProblem(system)
    start = time.process_time()
    base, _ = build_base(problem, SETTINGS)
    base_seconds = time.process_time() - start
    goal = 1e-4 * system.n_particles
    made = TransportRecipe(problem, base, Run("reuse", SETTINGS), goal).reuse(path)
    transport, flow, generator = made.transport, made.density, stream(0, "benchmark")
    start, works = time.process_time(), []
    wanted = SAMPLES if system.n_particles < 1000 else SAMPLES // 5
    for _ in range(-(-wanted // 512)):
        u, log_q = draw(flow, 512, generator)
        works.append(problem.target(u)[0] + log_q)
    spent = time.process_time() - start
    work = torch.cat(works)
    ess = kish_ess(-work) / len(work)
    cost = 1e3 * spent / len(work)
    print(
        f"\n{name:22} ESS {100 * ess:5.1f} % of {len(work)} (demanded {100 * LEAST[name]:.0f}), "
        f"k-hat {pareto_k(-work):.2f}, {cost:.2f} ms per sample, {transport.n_steps} steps; "
        f"fitted on {source_of(name)} in {fit_seconds:.1f} s, base {base_seconds:.1f} s"
    )
    assert ess >= LEAST[name]
    assert fit_seconds < 10.0
    if name == "ice/mw_cubic_512":
        assert cost < 10.0


@pytest.mark.benchmark
def test_published_rows_by_flow(fitted, tmp_path):
    """LFEP and LBAR of all eight rows within three combined errors; fits included."""
    torch.set_num_threads(1)
    total = sum(fitted(source)[1] for source in SOURCES.values())
    failures = []
    print(f"\nthree fits: {total:.1f} s of processor time")
    for name in ROWS:
        path, _ = fitted(source_of(name))
        system = load_system(name)
        settings = SETTINGS.model_copy(update={"flow": FlowSettings(source=str(path))})
        directory = RunDirectory.create(tmp_path / name, settings.to_toml(), system.digest)
        start = time.process_time()
        result = run(system, settings, directory, lambda event: None)
        spent = time.process_time() - start
        total += spent
        rows = {row.method: row for row in result.estimates}
        published = result.references[-1]
        line = f"{name:24}"
        for method in ("lbar", "lfep up"):
            row = rows[method]
            sigma = (row.value - published.value) / np.hypot(row.stderr, published.stderr or 0)
            line += f" {method} {row.value:10.5f}({row.stderr * 1e5:4.1f}) {sigma:5.1f} sigma"
            if abs(sigma) > 3:
                failures.append(f"{name} {method}: {sigma:.1f} sigma")
        if rows["lbar"].stderr > 1e-4:
            failures.append(f"{name}: stderr {rows['lbar'].stderr:.1e}")
        print(f"{line} grade {result.grade} {spent:6.1f} s")
    print(f"all eight {total:.1f} s")
    assert not failures, failures
    assert total < 300.0


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("name", "energy"),
    [
        # averages over the molecular dynamics shipped with doi:10.1038/s41467-026-73900-9
        ("ice/mw_cubic_216", (-11.74873, 0.0011)),
        ("lennard_jones/fcc_256", (-3.5157, 0.0046)),
    ],
)
def test_structure_of_reweighted_samples(name, energy, fitted, tmp_path):
    """g(r) and mean energy of reweighted flow samples against the chains at the target."""
    path, _ = fitted(source_of(name))
    system = load_system(name)
    settings = SETTINGS.model_copy(update={"flow": FlowSettings(source=str(path))})
    directory = RunDirectory.create(tmp_path / "run", settings.to_toml(), system.digest)
    result = run(system, settings, directory, lambda event: None)
    work = directory.read_work()
    target, stderr = work["rdf_target"], work["rdf_target_stderr"]
    weight = np.exp(-(w := work["work"][work["node"] == 0]) + w.min())
    inflation = np.sqrt(len(weight) * (weight**2).sum() / weight.sum() ** 2)
    seen = target > 0.05
    n_chains = work["chain"][work["node"] == 1].max() + 1
    spread = stderr[seen] * np.sqrt(1.0 + inflation**2 * n_chains / len(weight))
    z = (work["rdf_reweighted"] - target)[seen] / np.maximum(spread, 1e-12)
    raw = (work["rdf_flow"] - target)[seen] / np.maximum(spread, 1e-12)
    flow_energy = weight @ work["observed_flow"].ravel() / weight.sum()
    chain = result.observables[0]
    print(
        f"\n{name}: rms z of g(r) {np.sqrt((z**2).mean()):.2f} reweighted, "
        f"{np.sqrt((raw**2).mean()):.2f} raw; energy {flow_energy:.5f} reweighted, "
        f"{chain.value:.5f}({chain.stderr:.5f}) chains"
    )
    assert np.sqrt((z**2).mean()) < 2.0
    assert abs(flow_energy - chain.value) < 5 * chain.stderr
    assert abs(chain.value - energy[0]) < 3 * np.hypot(chain.stderr, energy[1])
