"""Trained flows of lattice fields: exact values, files, other extents, alarms, bad input."""

import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from assertions import assert_consistent
from helmflow.cli import app
from helmflow.densities.free_field import FreeField
from helmflow.errors import InputError
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import kish_ess, reweight
from helmflow.families import family_of, run
from helmflow.families.flow.field_flow import (
    FieldRecipe,
    fresh_field_flow,
    integrator_bias,
    stepped,
    train_field_flow,
)
from helmflow.families.flow.recipe import MadeFlow
from helmflow.families.path.base import build_base
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.families.samples import sample_flow
from helmflow.results import FLOW, RunDirectory
from helmflow.settings import (
    FlowSettings,
    NetworkSettings,
    SamplingSettings,
    Settings,
    TrainingSettings,
)
from helmflow.skeleton.kept import read_flow, write_kept
from helmflow.skeleton.run import Run
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.plan import DivergenceError

TOML = """
schema = 1
name = "field"
kind = "lattice_field"
summary = "phi^4"
[field]
shape = [{extent}, {extent}]
[potential]
kind = "phi4"
mass_squared = {mass_squared}
coupling = {coupling}
"""


def settings(kind="continuous", steps=60, seed=0, **changes):
    return Settings(
        method="flow",
        seed=seed,
        target_error=0.02,
        flow=FlowSettings(kind=kind, sweeps=8),
        training=TrainingSettings(steps=steps, batch=128),
    ).model_copy(update=changes)


def problem_of(path, extent, mass_squared, coupling):
    file = path / "field.toml"
    file.write_text(TOML.format(extent=extent, mass_squared=mass_squared, coupling=coupling))
    return LatticeProblem(load_system(file))


def trained(problem, chosen):
    base, _ = build_base(problem, chosen)
    return train_field_flow(problem, base, Run("trained", chosen))


def recipe(problem, kind="continuous"):
    base, _ = build_base(problem, Settings(base={"kind": "harmonic"}))
    return FieldRecipe(problem, base, Run("field", settings(kind)), 1.0)


def load_field_flow(path, problem, kind="continuous"):
    """Read it as `--flow` does, without looking for the number of steps."""
    made = recipe(problem, kind)
    return made.build(read_flow(path, [made.kind], problem.fingerprint())).density


def weighed(flow, problem, n=4096, seed=3):
    x, log_q = flow.sample_and_log_prob(n, stream(seed, "draws"))
    return x, (problem.target(x)[0] + log_q).numpy()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "phi4"
    system = load_system("lattice/phi4_4")
    chosen = family_of(system).accept(settings())
    directory = RunDirectory.create(path, chosen.to_toml(), system.digest, system="lattice/phi4_4")
    return path, run(system, chosen, directory, lambda event: None)


def test_the_default_flow_of_a_field_is_continuous():
    for name, kind in (("lattice/phi4_4", "continuous"), ("ice/mw_cubic_8", "transport")):
        assert family_of(load_system(name)).accept(Settings()).flow.kind == kind


def test_run_is_exact_and_certified(finished):
    _, result = finished
    exact = {r.quantity: r.value for r in load_system("lattice/phi4_4").references}
    assert_consistent(result.value, result.stderr, exact["log_partition_function"], resolve=0.1)
    assert result.grade in "AB", result.reason
    names = {check.name for check in result.checks}
    assert {"integrator", "modes of the chains", "flow against integration"} < names
    rows = {row.name: row for row in result.observables}
    for name, quantity in (("<phi^2>", "phi_squared"), ("chi_2 = V <mean(phi)^2>", "chi_2")):
        for row in (rows[name], rows[f"{name}, flow"]):
            assert_consistent(row.value, row.stderr, exact[quantity], resolve=0.5)
            assert row.exact == exact[quantity]
    assert "observables against exact" in names


@pytest.mark.parametrize("kind", ["continuous", "coupling"])
def test_short_training_reaches_most_samples(kind):
    problem = LatticeProblem(load_system("lattice/phi4_4"))
    flow = trained(problem, settings(kind, 100 if kind == "continuous" else 180))
    if kind == "continuous":
        flow = stepped(flow, 16)
    x, work = weighed(flow, problem)
    estimate = fep(work)
    assert estimate.diagnostics["ess_fraction"] > {"continuous": 0.94, "coupling": 0.75}[kind]
    assert_consistent(-estimate.value, estimate.stderr, 2.40513896, resolve=0.05)
    chi_2 = reweight((16 * x.mean(1).square()).numpy(), -work)
    assert_consistent(chi_2.value, chi_2.stderr, 0.683968, resolve=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "least"),
    [("phi4_6", 0.97), ("phi4_e1_6", 0.97), ("phi4_8", 0.97), ("phi4_e2_8", 0.95)],
)
def test_exact_values(name, least):
    system = load_system(f"lattice/{name}")
    exact = {r.quantity: r.value for r in system.references}
    problem = LatticeProblem(system)
    flow = stepped(trained(problem, settings(steps=400)), 24)
    x, work = weighed(flow, problem, 8192)
    estimate = fep(work)
    assert estimate.diagnostics["ess_fraction"] > least
    value = exact["log_partition_function"]
    assert_consistent(-estimate.value, estimate.stderr, value, resolve=0.05)
    for quantity, observed in (
        ("chi_2", x.shape[1] * x.mean(1).square()),
        ("phi_squared", x.square().mean(1)),
    ):
        found = reweight(observed.numpy(), -work)
        assert_consistent(found.value, found.stderr, exact[quantity], resolve=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("extent", [4, 8])
def test_deep_in_the_broken_phase_nothing_diverges(extent, seed, tmp_path):
    problem = problem_of(tmp_path, extent, -5.0, 6.0)
    flow = stepped(trained(problem, settings(steps=400, seed=seed)), 24)
    x, work = weighed(flow, problem, 2048)
    assert bool(torch.isfinite(x).all())
    assert kish_ess(-work) > 0.3 * len(work)
    below = (x.mean(1) < 0).double().mean().item()
    assert 0.4 < below < 0.6


def test_training_that_diverges_starts_again_with_smaller_steps(monkeypatch):
    problem, rates = LatticeProblem(load_system("lattice/phi4_4")), []

    def diverging(module, loss, plan, generator, **others):
        rates.append(plan.learning_rate)
        if len(rates) < 3:
            raise DivergenceError("diverged", 0.0, 1)

    monkeypatch.setattr("helmflow.families.flow.field_flow.train", diverging)
    trained(problem, settings(steps=10))
    assert rates[1] == pytest.approx(0.3 * rates[0])
    assert rates[2] == pytest.approx(0.1 * rates[0])
    monkeypatch.setattr("helmflow.families.flow.field_flow.CAUTION", (1.0,))
    rates.clear()
    with pytest.raises(DivergenceError):
        trained(problem, settings(steps=10))


def test_weights_of_one_extent_serve_another(finished, tmp_path):
    path, _ = finished
    larger = LatticeProblem(load_system("lattice/phi4_8"))
    flow = stepped(load_field_flow(path, larger, "continuous"), 16)
    _, work = weighed(flow, larger, 2048)
    estimate = fep(work)
    assert estimate.diagnostics["ess_fraction"] > 0.5
    assert_consistent(-estimate.value, estimate.stderr, 9.29136388, resolve=0.2)


def test_a_run_keeps_its_ess_against_volume(finished):
    with np.load(finished[0] / "work.npz") as work:
        volume, ess = work["ess_against_volume"].T
    assert volume.tolist() == [16, 36, 64]
    assert ess[0] > ess[2] > 0.3
    assert np.log(ess) / volume == pytest.approx(np.log(ess[2]) / 64, rel=0.7)


def test_exact_samples_of_a_run(finished):
    samples = sample_flow(finished[0], 2000, seed=1)
    assert samples.configurations.shape == (2000, 4, 4)
    assert samples.n_eff > 1000


def test_files_keep_every_weight(finished):
    problem = LatticeProblem(load_system("lattice/phi4_4"))
    made = recipe(problem)
    flow = load_field_flow(finished[0], problem)
    again = made.form.unpack(made.form.pack(MadeFlow(flow, flow.bijector))).density
    one, two = flow.state_dict(), again.state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert again.bijector.n_steps == flow.bijector.n_steps


def test_a_reused_flow_keeps_its_own_network(tmp_path):
    """The settings of the run that reuses it say nothing of how it was built."""
    problem = LatticeProblem(load_system("lattice/phi4_4"))
    base, _ = build_base(problem, Settings(base={"kind": "harmonic"}))
    small = settings("continuous").model_copy(update={"network": NetworkSettings(width=4)})
    first = FieldRecipe(problem, base, Run("small", small), 1.0)
    flow = fresh_field_flow(problem, base, small)
    write_kept(tmp_path / FLOW, first.form.pack(MadeFlow(flow, flow.bijector)), {})
    form, made = recipe(problem).form, recipe(problem).reuse(tmp_path)
    again = form.unpack(form.pack(made)).density
    assert torch.equal(again.bijector.coefficients, flow.bijector.coefficients)


def test_a_flow_of_another_action_or_kind_is_refused(finished, tmp_path):
    other = problem_of(tmp_path, 4, -4.0, 7.0)
    with pytest.raises(InputError, match="flow: expected a flow of this energy"):
        load_field_flow(finished[0], other, "continuous")
    own = LatticeProblem(load_system("lattice/phi4_4"))
    with pytest.raises(InputError, match=r"flow: expected one of kind coupling flow of a field"):
        load_field_flow(finished[0], own, "coupling")
    with pytest.raises(InputError, match="flow: expected a run that keeps a flow"):
        load_field_flow(tmp_path, own, "continuous")


def test_weights_that_are_nan_are_refused(finished, tmp_path):
    problem = LatticeProblem(load_system("lattice/phi4_4"))
    made, flow = recipe(problem), load_field_flow(finished[0], problem)
    flow.bijector.coefficients[0, 0, 0] = math.nan
    write_kept(tmp_path / FLOW, made.form.pack(MadeFlow(flow, flow.bijector)), {})
    with pytest.raises(InputError, match="flow: expected finite weights, got NaN"):
        load_field_flow(tmp_path, problem)


def test_couplings_need_even_extents(tmp_path):
    file = tmp_path / "odd.toml"
    file.write_text(TOML.format(extent=5, mass_squared=-4.0, coupling=8.0))
    chosen = tmp_path / "settings.toml"
    chosen.write_text('method = "flow"\n[flow]\nkind = "coupling"\nsweeps = 8\n')
    arguments = ["run", str(file), "--settings", str(chosen), "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "field.shape: expected even extents, for a checkerboard, got [5, 5]" in done.output


def test_kinds_belong_to_fields_or_crystals():
    for name, kind in (("lattice/phi4_4", "local"), ("ice/mw_cubic_8", "continuous")):
        with pytest.raises(InputError, match=r"flow.kind: expected (transport|continuous) or co"):
            run(load_system(name), settings(kind), None, lambda event: None)


def test_a_coarse_integrator_is_seen_by_doubling_its_steps(finished):
    problem = LatticeProblem(load_system("lattice/phi4_4"))
    flow = load_field_flow(finished[0], problem, "continuous")
    coarse, fine = (integrator_bias(stepped(flow, n), problem, 0) for n in (2, 16))
    assert coarse > 10.0 * fine


def test_a_lost_mode_is_an_alarm(monkeypatch):
    """A flow that never makes the fields of negative mean: its own ESS is blind to that."""
    log_prob, draw = FreeField.log_prob, FreeField.sample_and_log_prob

    def one_sided_log_prob(self, x):
        return log_prob(self, x) + torch.where(x.mean(1) > 0, math.log(2.0), -30.0)

    def one_sided_draw(self, n, generator):
        x, log_p = draw(self, n, generator)
        return x * x.mean(1, keepdim=True).sign(), log_p + math.log(2.0)

    monkeypatch.setattr(FreeField, "log_prob", one_sided_log_prob)
    monkeypatch.setattr(FreeField, "sample_and_log_prob", one_sided_draw)
    chosen = settings(steps=0, sampling=SamplingSettings(max_rounds=1))
    result = run(load_system("lattice/phi4_4"), chosen, None, lambda event: None)
    failed = {check.name for check in result.checks if not check.passed}
    assert "modes of the chains" in failed
    assert result.grade == "F"
