"""Modes that a flow has lost: found without it, sampled beside it, or told."""

import math
from dataclasses import replace

import pytest
import torch

from helmflow.bijectors.base import Chain
from helmflow.densities.flow import Flow
from helmflow.densities.local import LocalDensity, Mixture
from helmflow.densities.uniform import UniformAndNormal
from helmflow.energies.base import Energy
from helmflow.families.density.architecture import Architecture
from helmflow.families.density.learned_flow import LearnedFlow, form_of, with_modes
from helmflow.families.density.lost_modes import completed, still_lost
from helmflow.families.density.modes import SearchPlan, search_modes
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.pool import Pool
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.quadrature import integrate_on_grid
from helmflow.manifolds.product import parse_manifold
from helmflow.settings import Settings
from helmflow.skeleton.budget import Budget
from helmflow.skeleton.checks import lost_modes
from helmflow.skeleton.run import Run
from helmflow.skeleton.weighted import Batches, weighted_samples
from helmflow.streams import stream
from helmflow.system import load_system

SMALL = SearchPlan(probes=16_384, draws=1024)


def about(manifold, x, width):
    """A local density about a point, of one width in all directions."""
    one = torch.eye(manifold.dim, dtype=torch.float64)
    return LocalDensity(manifold, torch.tensor(x, dtype=torch.float64), width * one)


def two_modes(name, second_weight, width=0.25):
    """A target of two local densities with ln Z = 0, and the first of them alone."""
    manifold = parse_manifold(name)
    points = {
        "T1": ([1.0], [4.0]),
        "T3": ([1.0] * 3, [4.0] * 3),
        "T6": ([1.0] * 6, [4.0] * 6),
        "S2": ([0.0, 0.0, 1.0], [0.6, 0.0, -0.8]),
        "SO3": ([1.0, 0.0, 0.0, 0.0], [0.0, 0.6, 0.8, 0.0]),
        "T1 x S2 x R1": ([1.0, 0.0, 0.0, 1.0, 0.0], [4.0, 0.6, 0.0, -0.8, 9.0]),
    }[name]
    first, second = (about(manifold, x, width) for x in points)
    weights = torch.tensor([1.0 - second_weight, second_weight], dtype=torch.float64)
    target = Mixture((first, second), weights.log())
    return manifold, lambda x: -target.log_prob(x), first


@pytest.mark.parametrize("name", ["T1", "T2", "S2", "SO3"])
def test_a_local_density_is_normalised(name):
    manifold = parse_manifold(name)
    generator = stream(0, "local")
    centre = manifold.uniform(1, generator)[0]
    noise = torch.randn(manifold.dim, manifold.dim, generator=generator, dtype=torch.float64)
    scale = torch.eye(manifold.dim, dtype=torch.float64) + 0.3 * noise.tril(-1)
    q = LocalDensity(manifold, centre, 0.8 * scale)
    nodes, weights = manifold.quadrature(60 if name == "SO3" else 200)
    density = q.log_prob(nodes).exp() * weights
    assert float(density.sum()) == pytest.approx(1.0, abs=2e-6)
    x, log_q = q.sample_and_log_prob(20_000, generator)
    manifold.require(x)
    assert torch.allclose(q.log_prob(x), log_q)
    expected = density @ manifold.features(nodes)
    error = manifold.features(x).std(0) / math.sqrt(len(x))
    assert bool(((manifold.features(x).mean(0) - expected).abs() < 5.0 * error + 1e-12).all())


@pytest.mark.parametrize(
    ("name", "share"),
    [("T1", 0.5), ("T3", 0.01), ("T6", 0.5), ("S2", 0.01), ("SO3", 0.01), ("T1 x S2 x R1", 0.1)],
)
def test_a_lost_mode_is_found_and_sampled(name, share):
    """By values alone; -ln Z of the mixture is zero, and most of its samples count."""
    manifold, u, flow = two_modes(name, share)
    found = search_modes(manifold, u, flow, SMALL, stream(1, "modes"))
    assert found.modes
    assert found.unfinished < 1e-3
    density = Mixture((flow, *found.modes), found.log_weights)
    pool = Pool([density], u, 8192, stream(2, "pool"))
    ess = pool.ess_fraction(pool.log_q[0])
    assert ess > 0.8
    assert abs(pool.log_z) < 5.0 * math.sqrt((1.0 / ess - 1.0) / 8192) + 1e-6


def test_nothing_is_found_where_nothing_is_lost():
    """A flow that is the target, and one that is a little wider."""
    for width in (0.25, 0.35):
        manifold, u, _ = two_modes("T3", 0.3)
        flow = Mixture(
            tuple(about(manifold, [x] * 3, width) for x in (1.0, 4.0)),
            torch.tensor([0.7, 0.3], dtype=torch.float64).log(),
        )
        assert search_modes(manifold, u, flow, SMALL, stream(0, "modes")).modes == ()


def test_of_two_flows_the_one_with_all_modes_is_the_better():
    manifold, u, one_mode = two_modes("T1", 0.5)
    uniform = UniformAndNormal(manifold)
    assert Pool([one_mode, uniform], u, 2048, stream(0, "pool")).best() == 1
    alone = Pool([one_mode], u, 2048, stream(0, "pool"))
    assert alone.ess_fraction(alone.log_q[0]) > 0.99  # by its own samples it would be perfect


class Blocks(Energy):
    """Values without a gradient: a wide bowl, and a narrow one at the other end."""

    def forward(self, x):
        wide, narrow = (x - 1.0).cos().sum(-1), (x - 4.0).cos().sum(-1)
        return -torch.logsumexp(torch.stack((2.0 * wide, 40.0 * narrow - 105.0)), 0).round(
            decimals=3
        )


@pytest.fixture
def run_of_blocks(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'schema = 1\nname = "mine"\nkind = "density"\nsummary = "two bowls"\nmanifold = "T3"\n'
        '[potential]\nkind = "blocks"\n'
    )
    system = load_system(path, energies={"blocks": Blocks})
    run = Run("mine", Settings(target_error=0.01))
    u = CheckedPotential(system, run.budget)
    flow = Flow(UniformAndNormal(system.manifold), Chain([]))
    return run, u, LearnedFlow(flow, "no flow", 1.0, None, Architecture(plain=True))


def test_what_is_found_is_kept(run_of_blocks):
    """A poor flow gives way to local densities, which its file gives back bit for bit."""
    run, u, learned = run_of_blocks
    made = completed(u, learned, run, DensityPlan(search=SMALL))
    assert made.modes
    assert f"with {len(made.modes)} local densit" in made.name
    form = form_of(u, 0, DensityPlan())
    again = form.unpack(form.pack(made))
    x = u.manifold.uniform(100, stream(0, "x"))
    assert torch.equal(made.density.log_prob(x), again.density.log_prob(x))
    assert again.name == made.name
    assert again.unfinished == made.unfinished == 0.0


def test_modes_that_samples_do_not_see_are_told(run_of_blocks):
    """Known modes beside a flow that is sampled without them: the mass is what a grid says."""
    run, u, learned = run_of_blocks
    made = completed(u, learned, run, DensityPlan(search=SMALL))
    wide = about(u.manifold, [1.0] * 3, 0.75)
    samples = weighted_samples(wide, u, lambda x: {"x": x}, Batches(4096, 16_384, 16_384), run)
    blind = with_modes(replace(made, flow=wide), made.modes, None, 0.0)
    nodes, weights = u.manifold.quadrature(64)
    right = float(torch.logsumexp(weights.log() - u(nodes), 0))
    share = still_lost(u, blind, samples, run)
    assert math.log1p(share) == pytest.approx(right + samples.estimate.value, abs=0.1)
    assert lost_modes(share, 0.01).severity == "hard"
    covered = weighted_samples(
        made.density, u, lambda x: {"x": x}, Batches(4096, 16_384, 16_384), Run("b", Settings())
    )
    assert still_lost(u, made, covered, run) == 0.0
    assert abs(right + covered.estimate.value) < 5.0 * covered.estimate.stderr


def test_the_check():
    assert lost_modes(0.0, 1e-3).passed
    assert lost_modes(0.9e-3, 1e-3).passed
    soft = lost_modes(2e-3, 1e-3)
    assert (soft.passed, soft.severity) == (False, "soft")
    hard = lost_modes(5e-3, 1e-3)
    assert (hard.passed, hard.severity) == (False, "hard")
    assert "not reach" in lost_modes(None, 1e-3).explanation


def test_a_search_that_the_budget_does_not_allow(run_of_blocks):
    _, u, learned = run_of_blocks
    u = CheckedPotential(u.system, Budget(20_000))
    made = completed(u, learned, Run("mine", Settings()), DensityPlan())
    assert made.unfinished is None
    assert u.budget.evaluations == 0


class Step(Energy):
    """A density that jumps at 0.2498 of a turn."""

    def forward(self, x):
        return torch.where(x[:, 0] < 0.2498 * 2.0 * math.pi, 0.0, 3.0).double()


def test_a_grid_is_not_exact_where_the_density_jumps(tmp_path):
    """Two grids that agree by common factors of their sizes would both be 7e-4 off."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'schema = 1\nname = "mine"\nkind = "density"\nsummary = "a step"\nmanifold = "T1"\n'
        '[potential]\nkind = "step"\n'
    )
    system = load_system(path, energies={"step": Step})
    u = CheckedPotential(system, Budget())
    grid = integrate_on_grid(u, UniformAndNormal(system.manifold))
    exact = math.log(2.0 * math.pi * (0.2498 + 0.7502 * math.exp(-3.0)))
    assert not grid.converged
    assert abs(grid.log_z - exact) < 10.0 * grid.change
