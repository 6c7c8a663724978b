"""`helmflow run` on gauge theories: numbers, certificate, report, reuse, and what is refused."""

import json
from contextlib import suppress

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gauge_systems import LINK, SCHWINGER, SU2, U1, gauge, shorten, theory_of, write
from helmflow.bijectors.fitted_flow import FittedFlow, Plaquettes
from helmflow.cli import app
from helmflow.densities.flow import Flow
from helmflow.densities.loop_splitting import LoopSplitting
from helmflow.densities.tilted_links import TiltedLinks
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.gauge_exact import exact_gauge, single_link
from helmflow.errors import EnergyError, InputError
from helmflow.estimators.reweighting import kish_ess
from helmflow.families import family_of, run
from helmflow.families.gauge import u1
from helmflow.families.gauge.finding import modes_check
from helmflow.families.gauge.theory import FittedGauge
from helmflow.families.samples import load_flow, sample_flow
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.manifolds.links import plaquette_angles
from helmflow.results import RunDirectory
from helmflow.settings import FlowSettings, SamplingSettings, Settings, TrainingSettings
from helmflow.skeleton.budget import BudgetError
from helmflow.skeleton.kept import Kept, write_kept
from helmflow.skeleton.run import Run
from helmflow.streams import stream
from helmflow.system import load_system


@pytest.fixture(autouse=True)
def short_baselines(monkeypatch):
    shorten(monkeypatch)


def settings(**more):
    return Settings(seed=1, **more)


def test_command(tmp_path):
    """From one line to ln Z, a grade, the history of the charge and a page."""
    path = write(tmp_path, [4, 4], U1.format(beta=1.0))
    done = CliRunner().invoke(app, ["run", str(path), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    exact = exact_gauge(1, 1.0, 16)
    assert result["grade"] == "A"
    assert abs(result["value"] - exact.log_z) < 5.0 * result["stderr"] < 0.02
    assert result["value_exact"] == pytest.approx(exact.log_z, abs=1e-9)
    assert {row["method"] for row in result["estimates"]} == {"fep", "ti+cv"}
    found = {row["name"]: row for row in result["observables"]}
    for name, value in (("<cos P>", exact.plaquette), ("<Q^2>", exact.charge_squared)):
        assert abs(found[name]["value"] - value) < 5.0 * found[name]["stderr"]
    assert found["tau_int(Q), flow"]["value"] < 0.8
    assert "tau_int(Q), HMC" in found
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Topological charge" in page
    assert "Haar" in page
    with np.load(tmp_path / "run" / "work.npz") as work:
        assert np.abs(work["observed_Q"] - np.round(work["observed_Q"])).max() < 1e-9


def test_flow_of_another_size(tmp_path, monkeypatch):
    """Coefficients fitted at 4 x 4 serve at 8 x 4; they are refused by another theory."""
    small = gauge(tmp_path, [4, 4], U1.format(beta=1.0))
    directory = RunDirectory.create(tmp_path / "small", "", small.digest)
    run(small, settings(method="flow"), directory)
    large = gauge(tmp_path, [8, 4], U1.format(beta=1.0), "large.toml")
    reused = settings(method="flow", flow=FlowSettings(source=str(tmp_path / "small")))
    result = run(large, reused)
    assert result.estimates[0].ess_fraction > 0.9
    assert abs(result.value - exact_gauge(1, 1.0, 32).log_z) < 5.0 * result.stderr
    limited = run(large, reused.model_copy(update={"max_evaluations": 4000}))
    assert limited.cost.energy_evaluations <= 4000
    not_reached = {check.name for check in limited.checks if np.isnan(check.value)}
    assert not_reached == {"flow against integration", "modes of the chains"}
    other = gauge(tmp_path, [4, 4], SCHWINGER.format(kappa=0.2), "s.toml")
    with pytest.raises(InputError, match=r"flow: expected one of kind flow of the Schwinger"):
        run(other, reused)
    warm = gauge(tmp_path, [4, 4], U1.format(beta=1.5), "warm.toml")
    monkeypatch.setattr(u1.U1Theory, "path", lambda *_: pytest.fail("chains before the file"))
    with pytest.raises(InputError, match=r"flow: .* energy \(beta = 1\.5\), got 1 in"):
        run(warm, reused)


def test_loop_splitting_base(tmp_path):
    system = gauge(tmp_path, [8, 8], U1.format(beta=6.0))
    result = run(system, settings(flow=FlowSettings(start="loops")))
    assert "loop splitting" in result.base
    assert result.grade == "A"
    assert result.acceptance > 0.99
    found = {row.name: row for row in result.observables}
    assert found["tau_int(Q), loop splitting"].value < 0.6
    assert result.method == "loop splitting"
    assert "tau_int(Q), HMC (at least)" in found


def test_flow_from_another_coupling(tmp_path):
    """Loop splitting at beta = 2, and what leads from there to beta = 5 is learned."""
    system = gauge(tmp_path, [4, 4], U1.format(beta=5.0))
    start = FlowSettings(start="loops", coupling=2.0)
    result = run(system, settings(flow=start))
    theory = theory_of(system, flow=start)
    x, log_q = theory.base.sample_and_log_prob(2000, torch.Generator().manual_seed(0))
    alone = kish_ess((-theory.u(x) - log_q).numpy()) / 2000
    assert alone < 0.25
    assert result.estimates[0].ess_fraction > 0.6
    assert abs(result.value - exact_gauge(1, 5.0, 16).log_z) < 5.0 * result.stderr
    assert {row.method for row in result.estimates} == {"fep", "ti+cv"}


def test_single_link(tmp_path):
    link = gauge(tmp_path, None, LINK.format(n=3, beta=3.0, coefficients=[1.0, -0.5]))
    result = run(link, settings(training=TrainingSettings(steps=40, batch=256)))
    exact, moments = single_link(3, 3.0, (1.0, -0.5))
    assert result.estimates[0].ess_fraction > 0.85
    assert abs(result.value - exact) < 5.0 * result.stderr
    found = {row.name: row for row in result.observables}
    for name, value in zip(("<Re tr U>/N", "<Re tr U^2>/N"), moments, strict=True):
        assert abs(found[name].value - value) < 5.0 * found[name].stderr


def test_many_observables_keep_their_order(tmp_path):
    """Twelve powers of a matrix, also where a run reads them from its files."""
    link = gauge(tmp_path, None, LINK.format(n=2, beta=0.5, coefficients=[1.0, *[0.1] * 11]))
    directory = RunDirectory.create(tmp_path / "run", "", link.digest)
    names = ["<Re tr U>/N", *(f"<Re tr U^{k}>/N" for k in range(2, 13))]
    for _ in range(2):
        result = run(link, settings(training=TrainingSettings(steps=2)), directory)
        assert [row.name for row in result.observables[:12]] == names


def test_matrices_on_another_size(tmp_path):
    """Weights trained at 4 x 4 serve at 8 x 4, and only where extents are multiples."""
    text = SU2.format(beta=1.0)
    small = gauge(tmp_path, [4, 4], text)
    directory = RunDirectory.create(tmp_path / "small", "", small.digest)
    plan = TrainingSettings(steps=12, batch=64, learning_rate=0.03)
    run(small, settings(training=plan), directory)
    reused = settings(method="flow", flow=FlowSettings(source=str(tmp_path / "small")))
    result = run(gauge(tmp_path, [8, 4], text, "large.toml"), reused)
    assert abs(result.value - exact_gauge(2, 1.0, 32).log_z) < 5.0 * result.stderr
    assert result.estimates[0].ess_fraction > 0.1  # Haar proposals: 9e-4
    with pytest.raises(InputError, match="multiples"):
        run(gauge(tmp_path, [6, 4], text, "odd.toml"), reused)


RUNS = {
    # sampling leaves nothing for the baselines of the first
    "u1": (U1.format(beta=1.0), 20_000, {"sampling": SamplingSettings(chains=64)}),
    "su2": (
        SU2.format(beta=1.0),
        12_000,
        {"training": TrainingSettings(steps=4, batch=32, checkpoint_every=2)},
    ),
}


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("kind", RUNS)
def test_killed_runs_end_with_the_same_numbers_and_can_be_sampled(kind, tmp_path, monkeypatch):
    shorten(monkeypatch, least=1024, steps=10)
    potential, limit, more = RUNS[kind]
    file = write(tmp_path, [4, 4], potential)
    system = load_system(file)
    chosen = settings(target_error=1e-3, max_evaluations=limit, **more)

    def begun(folder):
        text = chosen.to_toml()
        return RunDirectory.create(tmp_path / folder, text, system.digest, system=str(file))

    def outcome(directory):
        result = json.loads((directory.path / "result.json").read_text())
        return result, result.pop("cost")["energy_evaluations"], directory.read_work()

    whole = begun("whole")
    seen = []
    run(system, chosen, whole, seen.append)
    killed = begun("killed")
    # in the path or training, between all stages, and in every one of the last
    for moment in (0, *range(len(seen) - 7, len(seen))):
        count = iter(range(len(seen) + 1))

        def kill(_, moment=moment, count=count):
            if next(count) == moment:
                raise Killed

        # the later a run is taken up again, the fewer events are left
        with suppress(Killed):
            run(system, chosen, killed, kill)
    run(system, chosen, killed)
    (result, energies, work), (expected, all_energies, arrays) = outcome(killed), outcome(whole)
    assert result == expected
    assert energies == all_energies <= limit
    failed = {check["name"] for check in expected["checks"] if not check["passed"]}
    assert ("modes of the chains" in failed) == (kind == "u1")
    for name, values in arrays.items():
        np.testing.assert_array_equal(work[name], values)
    flow, u = load_flow(whole.path)
    x, log_q = flow.sample_and_log_prob(500, stream(3, "load"))
    assert abs(np.log(np.exp((-u(x) - log_q).detach().numpy()).mean()) - expected["value"]) < 0.5
    samples = sample_flow(whole.path, 300, seed=2)
    assert samples.n_eff > 10
    assert samples.configurations.shape[:2] == (300, 2)
    weights = samples.log_weights.numpy()
    assert abs(np.log(np.exp(weights).mean()) - expected["value"]) < 0.5


LIMITED = {
    "u1": (U1.format(beta=1.0), {"sampling": SamplingSettings(chains=16)}),
    "loops": (U1.format(beta=1.0), {"flow": FlowSettings(start="loops")}),
    "su2": (SU2.format(beta=1.0), {"training": TrainingSettings(steps=3, batch=32)}),
    "schwinger": (SCHWINGER.format(kappa=0.1), {"flow": FlowSettings(coupling=1.2)}),
}


@pytest.mark.parametrize("kind", LIMITED)
def test_no_limit_is_exceeded(kind, tmp_path):
    """A limit that does not reach the first estimate is refused before anything is spent."""
    potential, more = LIMITED[kind]
    system = gauge(tmp_path, [4, 4], potential)
    theory, family = theory_of(system, **more), family_of(system)
    least = theory.path_evaluations + theory.fit_evaluations + family.batches.first
    for limit in (least, least + 600, least + 12_000):
        result = run(system, settings(max_evaluations=limit, **more))
        assert result.cost.energy_evaluations <= limit
        reached = {check.name for check in result.checks if not np.isnan(check.value)}
        assert ("modes of the chains" in reached) == (limit == least + 12_000)
    short = Run("short", family.accept(settings(max_evaluations=least - 1, **more)))
    with pytest.raises(BudgetError, match=rf"max_evaluations: expected at least {least}"):
        family.estimate(short)
    assert short.budget.evaluations == 0


@pytest.mark.parametrize("kind", LIMITED)
def test_energies_are_known_beforehand(kind, tmp_path):
    potential, more = LIMITED[kind]
    theory = theory_of(gauge(tmp_path, [4, 4], potential), **more)
    budget = theory.run.budget
    theory.path()
    assert budget.evaluations == theory.path_evaluations
    before = budget.evaluations
    baselines = theory.baselines()
    theory.u(baselines.target)
    assert budget.evaluations - before == theory.baseline_evaluations


def test_wrong_flow_is_noticed(tmp_path):
    """A mutant whose log-determinant lacks a part fails against integration and exact ln Z."""
    theory = theory_of(gauge(tmp_path, [4, 4], U1.format(beta=1.0)))
    tensors = theory.fit(theory.path(), None)

    class Mutant(FittedFlow):
        def forward(self, x):
            y, log_det = super().forward(x)
            return y, 0.8 * log_det

    broken = Mutant(PlaquetteField(), tensors["coefficients"], Plaquettes(), n_steps=8)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        x, log_q = Flow(theory.base, broken).sample_and_log_prob(2000, generator)
        work = theory.u(x) + log_q
    log_z = float(torch.logsumexp(-work, 0)) - np.log(2000)
    assert abs(log_z - theory.exact["log_z"]) > 0.3


def test_lost_sectors_are_noticed(tmp_path):
    """A flow without charged sectors finds its own weights excellent; chains that wind do not."""
    theory = theory_of(gauge(tmp_path, [8, 8], U1.format(beta=4.0)))
    target, _ = LoopSplitting((8, 8), beta=4.0).sample_and_log_prob(300, stream(0, "target"))
    for factor, passed in ((1.0, True), (1e-7, False)):
        flow = TiltedLinks((8, 8), beta=4.0, sectors=(1.0, factor))
        x, log_q = flow.sample_and_log_prob(500, stream(1, "flow"))
        log_w = (-theory.u(x) - log_q).numpy()
        assert kish_ess(log_w) / 500 > 0.99
        check = modes_check(theory, FittedGauge(flow, "", {}), log_w, target)
        assert check.passed == passed


class Broken(U1Wilson):
    """NaN wherever a plaquette is nearly pi."""

    def forward(self, x):
        worst = plaquette_angles(x).cos().flatten(1).min(1).values
        return torch.where(worst < -0.9, torch.nan, super().forward(x))


def test_nan_is_refused(tmp_path):
    path = write(tmp_path, [4, 4], 'kind = "broken"\nbeta = 1.0')
    system = load_system(path, energies={"broken": Broken})
    with pytest.raises(EnergyError, match="NaN"):
        run(system, settings())


def test_su2(tmp_path):
    system = gauge(tmp_path, [4, 4], SU2.format(beta=1.0))
    plan = TrainingSettings(steps=12, batch=64, learning_rate=0.03)
    result = run(system, settings(training=plan))
    assert abs(result.value - exact_gauge(2, 1.0, 16).log_z) < 5.0 * result.stderr
    assert result.estimates[0].ess_fraction > 0.3  # Haar proposals: 0.03
    assert result.estimates[0].n_eff > 500


def test_schwinger(tmp_path):
    system = gauge(tmp_path, [4, 4], SCHWINGER.format(kappa=0.276))
    result = run(system, settings())
    found = {row.name: row for row in result.observables}
    assert -1.0 < found["<sign det D>"].value < 1.0
    assert result.grade in "ABC"


@pytest.mark.parametrize(
    ("shape", "potential", "message"),
    [
        ([2, 8], 'kind = "u1_wilson"\nbeta = 1.0', "field.shape: expected extents of at least 3"),
        ([8, 8], 'kind = "u1_wilson"\nbeta = -1.0', "potential.beta"),
        ([8, 8], 'kind = "u1_wilson"', "potential.beta"),
        ([8, 8], 'kind = "su_wilson"\nn_colours = 4\nbeta = 1.0', "potential.n_colours"),
        ([8, 8], 'kind = "schwinger"\nbeta = 1.0\nkappa = 0.7', "potential.kappa"),
        ([8, 8], 'kind = "phi4"\nmass_squared = 1.0\ncoupling = 1.0', "potential.kind"),
    ],
)
def test_files_that_are_refused(tmp_path, shape, potential, message):
    with pytest.raises(InputError, match=message):
        load_system(write(tmp_path, shape, potential))


def field_from_loops(**flow):
    run(load_system("lattice/phi4_4"), Settings(flow=FlowSettings(**flow)))


def test_settings_that_are_refused(tmp_path):
    six = gauge(tmp_path, [6, 6], U1.format(beta=1.0))
    with pytest.raises(InputError, match="powers of two"):
        run(six, settings(flow=FlowSettings(start="loops")))
    with pytest.raises(InputError, match="start"):
        field_from_loops(start="loops")
    with pytest.raises(InputError, match=r"flow\.coupling"):
        field_from_loops(coupling=2.0)
    with pytest.raises(InputError, match="method"):
        run(six, settings(method="ti"))
    with pytest.raises(InputError, match=r"flow\.coupling"):
        run(six, settings(flow=FlowSettings(coupling=2.0)))
    eight = load_system("lattice/u1_8_beta2")
    for system in (eight, load_system("lattice/schwinger_8")):
        start = "loops" if system is eight else "base"
        far = FlowSettings(start=start, coupling=500.0)
        with pytest.raises(InputError, match=r"flow\.coupling: expected at most 100, got 500"):
            run(system, settings(flow=far))


def test_odd_extents_are_refused_before_any_work(tmp_path, monkeypatch):
    """Their links of one direction do not fall into two sets for a heat bath."""
    odd = gauge(tmp_path, [5, 4], U1.format(beta=1.0))
    monkeypatch.setattr(u1.U1Theory, "path", lambda *_: pytest.fail("work began"))
    with pytest.raises(InputError, match=r"field\.shape: expected even extents"):
        run(odd, settings())


def test_fields_have_no_gauge_action(tmp_path):
    path = write(tmp_path, [4, 4], 'kind = "u1_wilson"\nbeta = 1.0')
    path.write_text(path.read_text().replace("gauge_field", "lattice_field"))
    with pytest.raises(InputError, match=r"potential\.kind: .* got 'u1_wilson'"):
        load_system(path)


def test_broken_weights_are_refused(tmp_path):
    """A flow file with NaN in it, and one of other extents than the lattice can use."""
    system = gauge(tmp_path, [4, 4], U1.format(beta=1.0))
    tensors = {"coefficients": torch.full((1, 36), torch.nan), "start": torch.tensor(0.0)}
    kept = Kept(tensors, {}, "flow of U(1)", theory_of(system).couplings)
    write_kept(tmp_path / "flow.safetensors", kept, {})
    source = FlowSettings(source=str(tmp_path))
    with pytest.raises(InputError, match="flow: expected finite weights"):
        run(system, settings(method="flow", flow=source))
