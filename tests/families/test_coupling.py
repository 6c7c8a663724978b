"""The recipe of trained couplings: metrics, continuation, files, other sizes, mistakes."""

import pytest
import torch

from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.errors import InputError
from helmflow.families.flow import coupling
from helmflow.families.flow.coupling import (
    CouplingRecipe,
    lattice_base,
    neighbour_couplings,
    published_couplings,
    train_flow,
    whole_crystal,
)
from helmflow.families.flow.recipe import MadeFlow
from helmflow.families.flow.training_losses import has_score
from helmflow.families.path.base import build_base
from helmflow.families.path.crystal_problem import CrystalProblem
from helmflow.objectives import with_known_gradient
from helmflow.results import FLOW
from helmflow.settings import FlowSettings, NetworkSettings, Settings, TrainingSettings
from helmflow.skeleton.kept import write_kept
from helmflow.skeleton.run import Run
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.checkpoint import CheckpointFile, load, save
from helmflow.training.plan import DivergenceError
from helmflow.training.stochastic import measure
from small_systems import fcc_crystal

TRAINING = TrainingSettings(steps=12, batch=16, warm_up=2, checkpoint_every=4, ema_decay=0.5)
NETWORK = NetworkSettings(reach=1.1, layers=1, width=8)


@pytest.fixture(scope="module")
def crystal(tmp_path_factory):
    """32 Lennard-Jones particles and the phonons as base."""
    problem = CrystalProblem(fcc_crystal(tmp_path_factory.mktemp("crystal")))
    base, _ = build_base(problem, Settings(base={"kind": "harmonic"}))
    return problem, base


@pytest.fixture(autouse=True)
def few_validation_samples(monkeypatch):
    monkeypatch.setattr(coupling, "VALIDATION_SAMPLES", 128)


def weights(module):
    return torch.cat([p.detach().double().flatten() for p in module.parameters()])


def run_of(training=TRAINING, seed=3, listen=lambda event: None, kind="local"):
    flow = FlowSettings(kind=kind)
    settings = Settings(method="flow", seed=seed, training=training, network=NETWORK, flow=flow)
    return Run("couplings", settings, listen=listen)


def trained(crystal, file=None, listen=lambda event: None, training=TRAINING):
    problem, base = crystal
    bijector = neighbour_couplings(problem, base, NETWORK)
    store = None if file is None else CheckpointFile(file)
    return train_flow(problem, base, bijector, run_of(training, listen=listen), store=store)


def recipe(crystal, kind="local"):
    return CouplingRecipe(*crystal, run_of(kind=kind), 1.0)


def save_bijector(path, flow, crystal, kind="local"):
    """Write a file as a run does."""
    made = recipe(crystal, kind).form.pack(MadeFlow(flow, flow.bijector))
    write_kept(path, made, {})


def load_bijector(path, crystal, kind="local"):
    """Read it as `--flow` does."""
    return recipe(crystal, kind).reuse(path).bijector


def test_progress(crystal):
    events = []
    trained(crystal, listen=events.append)
    lines = [event.values for event in events]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert {"loss", "gradient_norm", "learning_rate", "ess", "upper_bound"} <= set(lines[-1])
    assert 0 < lines[-1]["ess"] <= 1
    assert [event.completed for event in events] == list(range(1, 13))
    assert "ESS" in events[-1].detail


def test_training_lowers_the_bound_on_the_free_energy(crystal):
    problem, base = crystal
    bijector = neighbour_couplings(problem, base, NETWORK)
    u = with_known_gradient(problem.target)
    training = TrainingSettings(steps=40, batch=32, learning_rate=0.01, warm_up=5)

    def bound(flow):
        return measure(flow, u, 1000, stream(0, "bound"))["upper_bound"]

    flow = train_flow(problem, base, bijector, run_of(training, seed=0))
    before = bound(type(flow)(base, neighbour_couplings(problem, base, NETWORK)))
    assert bound(flow) < before - 3.0


def test_an_interrupted_recipe_ends_with_the_same_bits(crystal, tmp_path):
    whole = trained(crystal)

    def stop(event):
        if event.completed == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(crystal, tmp_path / "state", stop)
    again = trained(crystal, tmp_path / "state")
    assert torch.equal(weights(whole), weights(again))


@pytest.mark.parametrize("start", ["base", "lattice"])
def test_a_reused_flow_keeps_its_own_network_and_start(crystal, tmp_path, start):
    """The settings of the run that reuses it say nothing of how it was built."""
    problem, base = crystal
    network = NetworkSettings(reach=1.1, layers=1, width=4)
    density = base if start == "base" else lattice_base(problem, 0.1)
    flow = Flow(density, neighbour_couplings(problem, base, network))
    made = MadeFlow(flow, flow.bijector, network=network)
    write_kept(tmp_path / FLOW, recipe(crystal).form.pack(made), {})
    form, reused = recipe(crystal).form, recipe(crystal).reuse(tmp_path)
    again = form.unpack(form.pack(reused)).density
    assert type(again.base) is type(density)
    assert torch.equal(weights(again), weights(reused.density))


def test_files_bring_the_map_back_and_refuse_others(crystal, tmp_path):
    base, flow = crystal[1], trained(crystal)
    path = tmp_path / "flow.safetensors"
    save_bijector(path, flow, crystal)
    loaded = load_bijector(path, crystal)
    u = base.sample(5, stream(0, "u"))
    for a, b in zip(flow.bijector.forward(u), loaded.forward(u), strict=True):
        assert torch.equal(a, b)

    (tmp_path / "colder").mkdir()
    colder = CrystalProblem(fcc_crystal(tmp_path / "colder", temperature=1.0))
    with pytest.raises(InputError, match=r"flow of this energy \(beta = 1\)"):
        load_bijector(path, (colder, base))
    tensors, header = load(path, {})
    save(path, tensors, {**header, "helmflow": "0.0.0"})
    with pytest.raises(InputError, match="flow: expected a flow of helmflow"):
        load_bijector(path, crystal)
    save(path, tensors, {**header, "kind": "other"})
    with pytest.raises(InputError, match="local flow of a crystal"):
        load_bijector(path, crystal)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="whole safetensors"):
        load_bijector(path, crystal)


def test_a_local_flow_is_used_at_another_size_and_the_published_one_refused(crystal, tmp_path):
    problem, base = crystal
    flow = trained(crystal)
    (tmp_path / "large").mkdir()
    large = CrystalProblem(fcc_crystal(tmp_path / "large", (3, 2, 2)))
    large_base, _ = build_base(large, Settings(base={"kind": "harmonic"}))
    path = tmp_path / "flow.safetensors"
    save_bijector(path, flow, crystal)
    moved = load_bijector(path, (large, large_base))
    assert torch.equal(weights(moved), weights(flow.bijector))
    u = large_base.sample(4, stream(0, "u"))
    y, _ = moved.forward(u)
    assert (moved.inverse(y)[0] - u).abs().max() < 1e-5
    published = Flow(base, published_couplings(problem, NETWORK))
    save_bijector(path, published, crystal, "coupling")
    assert torch.equal(weights(load_bijector(path, crystal, "coupling")), weights(published))
    with pytest.raises(InputError, match="one trained on"):
        load_bijector(path, (large, large_base), "coupling")


def test_the_published_flow_trains_from_the_lattice():
    problem = CrystalProblem(load_system("ice/mw_cubic_8"))
    base = lattice_base(problem, 0.2)
    network = NetworkSettings(layers=2, width=8, frequencies=2)
    training = TrainingSettings(
        steps=30, batch=32, learning_rate=5e-3, warm_up=5, objective="reverse_kl"
    )
    events = []
    run = run_of(training, seed=0, listen=events.append)
    flow = train_flow(problem, base, published_couplings(problem, network), run)
    lines = [event.values for event in events]
    assert lines[-1]["upper_bound"] < lines[0]["loss"] - 5.0
    positions_count_like_displacements(problem, flow)


@torch.no_grad()
def positions_count_like_displacements(problem, flow):
    """The published route (ln N!, ln V) and the fixed centre of mass give the same number."""
    system = problem.system
    u, log_q = flow.sample_and_log_prob(20, stream(0, "u"))
    of_u = problem.target(u)[0] + log_q - problem.log_measure
    whole = whole_crystal(problem, flow.base, flow.bijector)
    counted = system.log_permutations + system.log_thermal_volume
    shift = torch.rand(20, 1, 3, generator=stream(0, "shift"), dtype=torch.float64)
    x = system.reference_positions + u.view(20, -1, 3) + shift @ system.cell
    x = x[:, [3, 1, 0, 2, 6, 5, 4, 7]]
    of_x = system.reduced_potential(x) + whole.log_prob(x) + counted
    assert torch.allclose(of_x, of_u, atol=1e-4)  # networks in single precision
    y, log_q = whole.sample_and_log_prob(20, stream(0, "y"))
    assert torch.allclose(whole.log_prob(y), log_q, atol=1e-4)
    assert torch.isfinite(system.reduced_potential(y)).all()


def test_objectives_that_need_samples(crystal):
    problem, base = crystal
    samples = base.sample(64, stream(0, "as if of the crystal"))
    bijector = neighbour_couplings(problem, base, NETWORK)

    def train_with(name, samples, events):
        training = TrainingSettings(steps=2, batch=8, objective=name)
        run = run_of(training, seed=0, listen=events.append)
        train_flow(problem, base, bijector, run, samples=samples)

    for name in ("forward_kl", "two_sided", "log_variance"):
        events = []
        train_with(name, samples, events)
        low, _, high = events[-1].detail.split(", ")[1].partition(" < F/N < ")
        assert abs(float(low) - float(high)) < 1.0
    for name in ("forward_kl", "two_sided"):
        with pytest.raises(InputError, match="one of path_gradient"):
            train_with(name, None, [])


class WithoutSlope(Density):
    """A density that autograd sees only a part of."""

    def __init__(self, density, share):
        super().__init__()
        self.density, self.share = density, share

    def log_prob(self, x):
        log_p = self.density.log_prob(x)
        return self.share * log_p + (1 - self.share) * log_p.detach()

    def sample_and_log_prob(self, n, generator):
        return self.density.sample_and_log_prob(n, generator)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_base_without_a_slope_gets_the_plain_objective(crystal, share):
    problem, base = crystal
    base = WithoutSlope(base, share)
    bijector = neighbour_couplings(problem, base, NETWORK)
    assert has_score(base) == (share == 1.0)

    def trained_with(objective):
        training = TrainingSettings(steps=2, batch=8, objective=objective)
        copy = neighbour_couplings(problem, base, NETWORK)
        train_flow(problem, base, copy, run_of(training, seed=0))
        return weights(copy)

    assert not torch.equal(weights(bijector), trained_with(None))
    expected = "path_gradient" if share == 1.0 else "reverse_kl"
    assert torch.equal(trained_with(None), trained_with(expected))
    if share < 1.0:
        with pytest.raises(InputError, match="reverse_kl with a base"):
            trained_with("path_gradient")


def test_divergence_says_what_to_change(crystal, tmp_path):
    training = TrainingSettings(
        steps=600, batch=4, learning_rate=1e4, clip_norm=1e6, checkpoint_every=1, warm_up=25
    )
    with pytest.raises(DivergenceError, match="lower learning_rate"):
        trained(crystal, tmp_path / "state", training=training)
    assert (tmp_path / "state").is_file()
