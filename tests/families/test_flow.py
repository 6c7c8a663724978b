"""`method = "flow"`: values, alarms, transfer between sizes, exact samples, files."""

import math

import ase.io
import mdtraj
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from assertions import assert_consistent
from fitted_flows import fitted, load_flow, problem_and_base, save_flow
from helmflow.bijectors.affine import Affine
from helmflow.bijectors.base import Bijector
from helmflow.bijectors.fitted_flow import FittedFlow
from helmflow.cli import app
from helmflow.densities.flow import Flow
from helmflow.errors import ConvergenceError, InputError
from helmflow.estimators.diagnostics import pareto_k
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import kish_ess, reweight
from helmflow.families import family_of, run
from helmflow.families.flow import prepare
from helmflow.families.flow.certificate import divergence_error, partner_spread
from helmflow.families.flow.path_samples import fit_coefficients, sample_path
from helmflow.families.flow.prepare import PreparedFlow
from helmflow.families.flow.recipe import MadeFlow
from helmflow.families.flow.transport import transport_flow
from helmflow.families.path.base import build_base
from helmflow.families.path.crystal_problem import CrystalProblem
from helmflow.families.samples import sample_flow
from helmflow.fields.response import ResponseField
from helmflow.results import RunDirectory
from helmflow.settings import FlowSettings, SamplingSettings, Settings
from helmflow.skeleton.run import Run
from helmflow.skeleton.weighted import draw
from helmflow.streams import stream
from helmflow.system import load_system
from small_systems import fcc_crystal

QUICK = Settings(method="flow", flow=FlowSettings(sweeps=8), target_error=1e-3)
LJ32, LJ32_STDERR = 2.91951, 2e-5  # 24 runs of thermodynamic integration pooled, no flow


def flow_run(name, path=None, settings=QUICK):
    system = load_system(name)
    directory = None
    if path is not None:
        resolved = family_of(system).accept(settings)
        directory = RunDirectory.create(path, resolved.to_toml(), system.digest, system=name)
    return run(system, settings, directory, lambda event: None)


def checks_of(result):
    return {check.name: check for check in result.checks}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "lj32"
    return path, flow_run("lennard_jones/fcc_32", path)


def test_free_energy_of_a_crystal(finished):
    _, result = finished
    assert result.method == "lbar"
    assert result.grade == "A", result.reason
    assert_consistent(result.value, np.hypot(result.stderr, LJ32_STDERR), LJ32, resolve=0.02)
    assert {"lfep up", "lfep down", "ti+cv"} < {row.method for row in result.estimates}
    assert {
        "flow against integration",
        "log-determinant",
        "integrator",
        "symmetry partners",
    } < set(checks_of(result))


def test_ln_z_of_a_field():
    settings = QUICK.model_copy(update={"target_error": 0.02})
    result = flow_run("lattice/phi4_4", settings=settings)
    exact = load_system("lattice/phi4_4").references[0].value
    assert_consistent(result.value, result.stderr, exact, resolve=0.3)
    assert result.grade in "AB"


@pytest.mark.parametrize(
    ("name", "least"),
    [("ice/mw_cubic_64", 0.9), ("lennard_jones/fcc_32", 0.9), ("lattice/phi4_4", 0.6)],
)
def test_effective_sample_size(name, least):
    problem, base, _, transport = fitted(name)
    u, log_q = draw(Flow(base, transport), 512, stream(11, "draws"))
    assert kish_ess(-(problem.target(u)[0] + log_q)) > least * 512


def test_coefficients_fitted_on_32_particles_serve_108(tmp_path):
    problem, base, _, transport = fitted("lennard_jones/fcc_32")
    save_flow(tmp_path / "flow.safetensors", problem, base, transport)
    larger, base = problem_and_base("lennard_jones/fcc_108")
    moved = load_flow(tmp_path, larger, base).with_steps(4)
    u, log_q = draw(Flow(base, moved), 512, stream(12, "draws"))
    work = larger.target(u)[0] + log_q
    assert kish_ess(-work) > 0.6 * 512
    estimate = fep(work.numpy())
    value = (estimate.value - larger.log_measure) / 108
    assert_consistent(value, estimate.stderr / 108, 3.06887, resolve=0.02)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("ice/mw_cubic_8", "flow: expected a flow of this energy"),
        ("lattice/phi4_4", "flow: expected one of kind transport flow of a field"),
    ],
)
def test_flow_of_another_system_is_refused(other, message, tmp_path):
    problem, base, _, transport = fitted("lennard_jones/fcc_32")
    save_flow(tmp_path / "flow.safetensors", problem, base, transport)
    with pytest.raises(InputError, match=message):
        load_flow(tmp_path / "flow.safetensors", *problem_and_base(other))


def test_a_flow_needs_its_method(finished, tmp_path):
    arguments = ["run", "lennard_jones/fcc_32", "--flow", str(finished[0]), "--out"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "run")])
    assert done.exit_code == 2
    assert "flow: expected --method flow" in done.output
    assert not (tmp_path / "run").exists()


def test_a_run_whose_budget_is_spent_goes_on_with_a_larger_one(tmp_path):
    arguments = ["run", "lattice/phi4_4", "--method", "flow", "--steps", "12", "--target-error"]
    arguments += ["0.1", "--out", str(tmp_path / "run"), "--max-evaluations"]
    done = CliRunner().invoke(app, [*arguments, "20000"])
    assert done.exit_code == 2
    assert "max_evaluations: expected at least" in done.output
    assert "go on with: helmflow run lattice/phi4_4" in done.output
    done = CliRunner().invoke(app, [*arguments, "200000", "--resume"])
    assert done.exit_code in (0, 1), done.output
    assert RunDirectory.open(tmp_path / "run").read_result().cost.energy_evaluations <= 200_000


def test_a_resumed_run_keeps_its_own_flow(finished, tmp_path):
    """The source may be gone or replaced by then."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "flow.safetensors").write_bytes((finished[0] / "flow.safetensors").read_bytes())
    system = load_system("lennard_jones/fcc_32")
    flow = FlowSettings(sweeps=8, source=str(source))
    settings = family_of(system).accept(QUICK.model_copy(update={"flow": flow}))
    directory = RunDirectory.create(tmp_path / "run", settings.to_toml(), system.digest)

    def stop(event):
        if event.stage == "burn-in":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(system, settings, directory, stop)
    (source / "flow.safetensors").unlink()
    assert run(system, settings, directory, lambda event: None).method == "lbar"
    one, two = (load_file(path / "flow.safetensors") for path in (finished[0], tmp_path / "run"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_flow_that_diverges_is_one_line(monkeypatch):
    honest = FittedFlow.velocity

    def wild(self, x, t):
        velocity, divergence = honest(self, x, t)
        return velocity, divergence + torch.where(x[:, 0] > 2.0, torch.nan, 0.0)

    monkeypatch.setattr(FittedFlow, "velocity", wild)
    settings = QUICK.model_copy(update={"flow": FlowSettings(sweeps=8, steps=2)})
    with pytest.raises(ConvergenceError, match="the flow diverges on"):
        flow_run("lennard_jones/fcc_32", settings=settings)


def test_an_energy_that_jumps_is_integrated_without_control_variates(tmp_path):
    system = fcc_crystal(tmp_path, cutoff=1.5, shift=False)
    settings = QUICK.model_copy(update={"target_error": 2e-3})
    result = run(system, settings, None, lambda event: None)
    assert "ti" in {row.method for row in result.estimates}
    assert checks_of(result)["flow against integration"].value < 5.0


def test_damaged_or_missing_flow_is_refused(tmp_path):
    problem, base, _, transport = fitted("lennard_jones/fcc_32")
    file = tmp_path / "flow.safetensors"
    with pytest.raises(InputError, match="flow: expected a run that keeps a flow"):
        load_flow(tmp_path, problem, base)
    save_flow(file, problem, base, transport)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="flow: expected a flow of helmflow"):
        load_flow(file, problem, base)


def test_a_planted_wrong_log_determinant_is_caught(monkeypatch):
    honest = FittedFlow.velocity

    def wrong(self, x, t):
        velocity, divergence = honest(self, x, t)
        return velocity, divergence + 0.3

    monkeypatch.setattr(FittedFlow, "velocity", wrong)
    result = flow_run("lennard_jones/fcc_32")
    assert result.grade == "F"
    failed = {check.name for check in result.checks if not check.passed}
    assert {"log-determinant", "flow against integration"} <= failed


def test_a_planted_wrong_trace_of_a_field_is_caught(monkeypatch):
    """Control variates share the trace with the flow: integration and flow agree on the error."""
    honest = ResponseField._value

    def wrong(self, u):
        gradient, trace = honest(self, u)
        return gradient, 1.03 * trace

    monkeypatch.setattr(ResponseField, "_value", wrong)
    result = flow_run("lennard_jones/fcc_32")
    assert result.grade == "F"
    assert not checks_of(result)["log-determinant"].passed
    problem, base = problem_and_base("lennard_jones/fcc_32")
    path = sample_path(problem, base, Run("test", QUICK))
    flow = transport_flow(base, path.fields, fit_coefficients(path.samples).coefficients, 4)
    assert divergence_error(flow, base, stream(0, "points")) > 0.1
    monkeypatch.undo()
    assert divergence_error(flow, base, stream(0, "points")) < 1e-6


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("first_order", lambda x: x[:-1]),
        ("first_order", lambda x: x[:, None]),
        ("first_order", lambda x: x * math.nan),
        ("grids", lambda x: x[:1]),
        ("coefficients", lambda x: x[:, :-1]),
        ("grids", None),
    ],
)
def test_a_flow_file_with_wrong_tensors_is_refused(name, change, tmp_path):
    problem, base, _, transport = fitted("lennard_jones/fcc_32")
    file = tmp_path / "flow.safetensors"
    save_flow(file, problem, base, transport)
    tensors = load_file(file)
    changed = tensors.pop(name)
    if change is not None:
        tensors[name] = change(changed).contiguous()
    with safe_open(file, "pt") as old:
        header = old.metadata()
    save_file(tensors, file, header)
    with pytest.raises(InputError, match="flow: expected"):
        load_flow(file, problem, base)


def test_names_of_the_atoms_do_not_change_a_flow(tmp_path):
    """Bonds of one length belong together whatever the species: no pair is left out."""
    species = ["Ar" if k % 4 in (0, 1) else "Kr" for k in range(32)]
    problem = CrystalProblem(fcc_crystal(tmp_path, species=species))
    assert [shell.name for shell in problem._shells if shell.rank == 0] == [
        "Ar-Ar",
        "Ar-Kr",
        "Kr-Kr",
    ]
    base, _ = build_base(problem, QUICK)
    path = sample_path(problem, base, Run("test", QUICK))
    flow = transport_flow(base, path.fields, fit_coefficients(path.samples).coefficients, 4)
    u, log_q = draw(Flow(base, flow), 512, stream(3, "draws"))
    assert kish_ess(-(problem.target(u)[0] + log_q)) > 0.7 * 512


class Narrow(Bijector):
    """Draws displacements together; an exact log-determinant, a useless flow."""

    def __init__(self, dim):
        super().__init__()
        self.log_det = dim * math.log(0.67)

    def forward(self, x):
        return 0.67 * x, x.new_full((len(x),), self.log_det)

    def inverse(self, y):
        return y / 0.67, y.new_full((len(y),), -self.log_det)


def test_a_planted_collapsed_flow_is_caught(monkeypatch):
    """A flow that sees only the middle of every mode: good weights there, none elsewhere."""

    def collapsed(problem, base, run, goal):
        path, narrow = prepare_flow(problem, base, run, goal).path, Narrow(base.dim)
        return PreparedFlow(MadeFlow(Flow(base, narrow), narrow), path, "collapsed flow")

    prepare_flow = prepare.prepare_flow
    monkeypatch.setattr("helmflow.families.path.family.prepare_flow", collapsed)
    few = QUICK.model_copy(update={"sampling": SamplingSettings(max_rounds=2)})
    result = flow_run("lennard_jones/fcc_32", settings=few)
    assert result.grade in "DF"
    assert not checks_of(result)["pareto k"].passed


def test_a_flow_that_prefers_one_of_two_partners_is_seen():
    problem, base = problem_and_base("lennard_jones/fcc_32")
    group = problem.symmetry
    assert partner_spread(base, group, stream(8, "partners")) < 1e-6
    shift = base.sample(1, stream(9, "shift"))[0]
    moved = Affine(torch.ones_like(shift), shift)
    assert partner_spread(Flow(base, moved), group, stream(8, "partners")) > 5.0


def test_samples_are_distributed_like_the_target(finished):
    path, result = finished
    samples = sample_flow(path, 1500, seed=3)
    system = samples.system
    energy = system.energy(samples.proposals) / 32
    weighted = reweight(energy, samples.log_weights)
    chains = result.observables[0]
    scale = np.hypot(weighted.stderr, chains.stderr)
    assert_consistent(weighted.value - chains.value, scale, 0.0, resolve=0.2)
    exact = system.energy(samples.configurations) / 32
    error = (exact.var() / samples.n_eff).sqrt().item()
    difference = exact.mean().item() - chains.value
    assert_consistent(difference, np.hypot(error, chains.stderr), 0.0, resolve=0.2)
    assert samples.n_eff > 500
    assert pareto_k(samples.log_weights) < 0.7


def test_samples_become_objects_of_other_packages(finished):
    samples = sample_flow(finished[0], 20)
    atoms = samples.to_ase()
    assert len(atoms) == 20
    np.testing.assert_array_equal(atoms[3].positions, samples.configurations[3].numpy())
    trajectory = samples.to_mdtraj()
    assert (trajectory.n_frames, trajectory.n_atoms) == (20, 32)
    np.testing.assert_allclose(trajectory.xyz, samples.configurations.numpy(), atol=1e-5)


def sample_command(*arguments):
    return CliRunner().invoke(app, ["sample", *map(str, arguments)])


@pytest.mark.parametrize("suffix", ["extxyz", "npz", "dcd", "xtc"])
def test_sample_files(suffix, finished, tmp_path):
    out = tmp_path / f"samples.{suffix}"
    done = sample_command(finished[0], "--n", 30, "--out", out)
    assert done.exit_code == 0, done.output
    assert "effective" in done.output
    x = sample_flow(finished[0], 30).configurations.numpy()
    if suffix == "extxyz":
        read = np.stack([a.positions for a in ase.io.read(out, index=":")])
        np.testing.assert_array_equal(read, x)
    elif suffix == "npz":
        with np.load(out, allow_pickle=False) as file:
            np.testing.assert_array_equal(file["x"], x)
    else:
        assert "precision" in done.output
        topology = sample_flow(finished[0], 30).to_mdtraj().topology
        read = mdtraj.load(out, top=topology)
        np.testing.assert_allclose(read.xyz, x, atol=1e-3)


def test_weighted_samples(finished, tmp_path):
    out = tmp_path / "weighted.extxyz"
    assert sample_command(finished[0], "--n", 30, "--weights", "--out", out).exit_code == 0
    found = [a.info["log_weights"] for a in ase.io.read(out, index=":")]
    np.testing.assert_allclose(found, sample_flow(finished[0], 30).log_weights, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "4", "--out", "x.extxyz"], "n: expected enough for 10 effective samples"),
        (["--n", "50", "--out", "x.pdb"], "out: expected a file name that ends in"),
        (["--n", "50", "--weights", "--out", "x.dcd"], "out: expected extxyz or npz"),
    ],
)
def test_sample_mistakes(arguments, message, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = sample_command(finished[0], *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert not list(tmp_path.glob("x.*"))


def test_only_runs_with_a_flow_can_be_sampled(tmp_path):
    system = load_system("lattice/phi4_4")
    settings = family_of(system).accept(Settings())
    RunDirectory.create(tmp_path / "r", settings.to_toml(), system.digest, system=system.name)
    with pytest.raises(InputError, match="run: expected a run that keeps a flow"):
        sample_flow(tmp_path / "r", 100)


def test_the_command_reuses_a_flow(finished, tmp_path):
    arguments = ["run", "lennard_jones/fcc_32", "--method", "flow", "--flow", str(finished[0])]
    arguments += ["--target-error", "2e-3", "--seed", "4", "--out", str(tmp_path / "again")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "lbar" in done.output
    assert (tmp_path / "again" / "flow.safetensors").is_file()
