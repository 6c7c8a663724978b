"""`helmflow run` on densities: ln Z, KL, exact samples, grades, and what is refused."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from helmflow.bijectors.base import Chain
from helmflow.cli import app
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import UniformAndNormal
from helmflow.energies.base import Energy
from helmflow.errors import EnergyError, InputError
from helmflow.estimators.diagnostics import acceptance_rate
from helmflow.estimators.fep import fep
from helmflow.families import free_energy
from helmflow.families.density.architecture import Architecture, untrained
from helmflow.families.density.family import BATCHES, DensityFamily, learned_flow
from helmflow.families.density.finding import divergence, finding_of
from helmflow.families.density.learned_flow import LearnedFlow
from helmflow.families.density.plan import DensityPlan
from helmflow.families.density.potential import CheckedPotential
from helmflow.families.density.quadrature import integrate_on_grid
from helmflow.families.density.training import trained_flow
from helmflow.manifolds.product import parse_manifold
from helmflow.samplers.independence import independence_metropolis
from helmflow.settings import Settings
from helmflow.skeleton.budget import Budget
from helmflow.skeleton.run import Run
from helmflow.skeleton.weighted import Weighted, weighted_samples
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.replay import ReplayPlan

FILE = """
schema = 1
name = "mine"
kind = "density"
summary = "two directions"
manifold = "{manifold}"

[potential]
{potential}
"""


class Broken(Energy):
    """Returns what its argument says."""

    def __init__(self, kind_of_defect: str) -> None:
        super().__init__()
        self.defect = kind_of_defect

    def forward(self, x):
        u = -torch.cos(x).sum(-1)
        right = x[:, 0] > 3.0
        if self.defect == "shape":
            return u[:, None]
        value = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[self.defect]
        return torch.where(right, value, u)


@pytest.fixture
def small_maps(monkeypatch):
    """Potential maps of one small size each."""
    sizes = {"T1": ((8, 64),), "T2": ((4, 16),), "S3": ((120, 4.0, 8),)}
    monkeypatch.setattr(DensityFamily, "plan", DensityPlan(maps=sizes))


def checked(system):
    """Its potential, counted without a limit."""
    return CheckedPotential(system, Budget())


def learned(system, u):
    return learned_flow(u, Run(system.name, Settings()), DensityFamily.plan)


def write(tmp_path, manifold, potential):
    path = tmp_path / "mine.toml"
    path.write_text(FILE.format(manifold=manifold, potential=potential))
    return path


def test_command(tmp_path):
    """One command from a name to number, grade, samples and page."""
    done = CliRunner().invoke(app, ["run", "torus/unimodal", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["grade"] == "A"
    assert result["quantity"] == "log_partition_function"
    assert abs(result["value"] - 4.147582849833047) < 5.0 * result["stderr"] + 1e-12
    assert abs(result["value_exact"] - 4.147582849833047) < 1e-12
    assert 0.0 <= result["kl_exact"] < 1e-9
    assert "nats on a grid, effective sample size 99.9999" in done.output
    page = (tmp_path / "run" / "report.html").read_text()
    assert "ln Z" in page
    assert "nan" not in page.lower().split("<script")[0]
    with np.load(tmp_path / "run" / "work.npz") as work:
        samples, log_w = work["samples"], -work["work"]
    assert ((samples >= 0) & (samples < 2 * math.pi)).all()
    expected = acceptance_rate(log_w)
    error = math.sqrt(expected * (1 - expected) / len(log_w)) + 1e-9
    assert abs(result["acceptance"] - expected) < 5.0 * error


def test_custom_mixture_with_two_modes(tmp_path):
    """Metropolis samples have the right share in each mode, from centres in a TOML file."""
    path = write(
        tmp_path,
        "S2",
        'kind = "sphere_mixture"\ncentres = [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]\n'
        "concentration = 6.0\nweights = [3.0, 1.0]",
    )
    result = free_energy(load_system(path), seed=1)
    exact = math.log(16.0 * math.pi * math.sinh(6.0) / 6.0)
    assert result.value_exact == pytest.approx(exact, abs=1e-10)
    assert abs(result.value - exact) < 5.0 * result.stderr
    assert result.kl_exact < 1e-5
    assert result.grade == "A"


@pytest.mark.usefixtures("small_maps")
def test_orientations_keep_antipodes():
    """The recipe sees that q and -q are one rotation, and makes the flow say so to rounding."""
    system = load_system("sphere/orientations")
    u = checked(system)
    fitted = learned(system, u)
    assert fitted.architecture.even
    q = system.manifold.uniform(300, stream(0, "q"))
    with torch.no_grad():
        log_q, opposite = fitted.flow.log_prob(q), fitted.flow.log_prob(-q)
        x, log_x = fitted.flow.sample_and_log_prob(4000, stream(1, "x"))
    assert (log_q - opposite).abs().max() < 1e-10
    log_w = (-u(x) - log_x).numpy()
    estimate = fep(-log_w)
    assert abs(-estimate.value - system.references[0].value) < 5.0 * estimate.stderr
    assert estimate.diagnostics["ess_fraction"] > 0.7
    found = independence_metropolis(log_w, stream(2, "chain"))
    assert 0.3 < (x[found.index][:, 0] > 0).double().mean() < 0.7  # both signs of one rotation


@pytest.mark.usefixtures("small_maps")
def test_rotations_count_once(tmp_path):
    """The same orientations on SO(3): one point for q and -q, ln 2 less, half the grid."""
    whole = load_system("sphere/orientations")
    text = whole.path.read_text().replace('manifold = "S3"', 'manifold = "SO3"')
    (tmp_path / "mine.toml").write_text(text)
    system = load_system(tmp_path / "mine.toml")
    assert "over SO3 (Haar measure of unit quaternions, q and -q one point)" in system.convention
    assert "its volume 9.869604401" in system.convention
    u = checked(system)
    fitted = learned(system, u)
    assert fitted.architecture.even
    grid = integrate_on_grid(u, fitted.flow)
    assert grid.log_z == pytest.approx(whole.references[0].value - math.log(2.0), abs=1e-9)
    assert grid.converged
    assert grid.kl < 0.3
    with torch.no_grad():
        x, log_x = fitted.flow.sample_and_log_prob(4000, stream(1, "x"))
    estimate = fep((u(x) + log_x).numpy())
    assert abs(-estimate.value - grid.log_z) < 5.0 * estimate.stderr


@pytest.mark.parametrize("name", ["S1", "S4", "SO3", "R3 x SO3", "R2", "S1 x SO3"])
def test_every_manifold_has_a_trained_flow(name):
    manifold = parse_manifold(name)
    flow, _ = untrained(manifold, Architecture(), 0)
    x, log_q = flow.sample_and_log_prob(20, stream(0, "x"))
    manifold.require(x.detach())
    assert (flow.log_prob(x) - log_q).abs().max() < 1e-9
    for alias in manifold.aliases(x):
        assert (flow.log_prob(alias) - log_q).abs().max() < 1e-9


def test_the_identity_flow_is_what_is_published():
    """Trap: a divergence near 1.06 nats on the four modes is that of no flow at all."""
    system = load_system("sphere/four_modes")
    nodes, weights = system.manifold.quadrature(120)
    log_p = -system.reduced_potential(nodes) - system.references[0].value
    uniform = torch.full_like(log_p, -system.manifold.log_volume)
    w = (log_p - uniform).exp()
    kl = float((weights * uniform.exp()) @ (uniform - log_p))
    assert kl == pytest.approx(1.06254318163, abs=1e-9)
    ess = 1.0 / float((weights * uniform.exp()) @ w.square())
    assert ess == pytest.approx(0.39704, abs=1e-5)


def test_same_seed_same_numbers():
    first, second = (free_energy(load_system("torus/correlated"), seed=3) for _ in range(2))
    assert (first.value, first.stderr) == (second.value, second.stderr)


@pytest.mark.usefixtures("small_maps")
def test_a_density_with_a_hole():
    """+inf is weight zero: counted, never a wrong number."""
    system = broken_system("inf")
    result = free_energy(system, seed=0, target_error=0.05)
    inside = 2.0 * math.pi * np.i0(1.0)
    fraction_of_cos = np.linspace(0.0, 3.0, 20_001)
    exact = math.log(np.trapezoid(np.exp(np.cos(fraction_of_cos)), fraction_of_cos) * inside)
    assert abs(result.value - exact) < 5.0 * result.stderr
    rejected = next(row for row in result.observables if row.name == "samples of infinite energy")
    assert 0.001 < rejected.value < 0.6
    assert result.grade == "B"  # all checks passed, but no grid can confirm it
    assert result.value_exact is None  # the grids disagree on a jump, and that is noticed
    assert result.kl_exact is None


ZERO = 'kind = "power_spherical"\naxis = [0.6, 0.8]\nconcentration = 3.0'


def test_a_density_with_a_zero(tmp_path):
    """Following it down to the zero would fold the map: the fit stops at twelve nats."""
    result = free_energy(load_system(write(tmp_path, "S1", ZERO)), seed=0)
    assert result.grade == "A"
    assert result.kl_exact < 1e-3
    assert abs(result.value - result.value_exact) < 5.0 * result.stderr


def test_a_flow_that_has_not_learned_is_no_a(tmp_path):
    """Bounded weights give ln Z with small errors from the uniform density, too."""
    flow, weighted, u, own = uniform_run(load_system(write(tmp_path, "S1", ZERO)))
    result = judged(flow, weighted, integrate_on_grid(u, flow.flow), own)
    assert result.grade == "C"
    assert "KL(q || p)" in result.reason
    assert abs(result.value - result.value_exact) < 5.0 * result.stderr
    blind = judged(flow, weighted, None, own)
    estimated, exact = (next(c for c in r.checks if c.name[0] == "K") for r in (blind, result))
    error = float(weighted.work.std()) / math.sqrt(len(weighted.work))
    assert abs(estimated.value - exact.value) < 5.0 * error


def uniform_run(system, shift=0.0):
    """Flow, weights and potential of a uniform density, works moved by a shift."""
    own = Run(system.name, Settings(target_error=0.05))
    own.quantity = DensityFamily(system).quantity
    u = CheckedPotential(system, own.budget)
    flow = Flow(UniformAndNormal(system.manifold), Chain([]))
    columns = weighted_samples(flow, u, lambda x: {"x": x}, BATCHES, own).columns
    work = columns["work"] + shift
    weighted = Weighted({**columns, "work": work}, fep(work.numpy()))
    return LearnedFlow(flow, "uniform", 1.0, None, Architecture()), weighted, u, own


def judged(flow, weighted, grid, own):
    return own.conclude(own.quantity, finding_of(flow, weighted, 0.0, grid, own))


def test_a_grid_that_says_something_else_is_an_f(tmp_path):
    """Beyond all errors and a hundredth of a nat one of the two is wrong."""
    potential = 'kind = "torus_mixture"\ncentres = [[1.0, 2.0]]\nconcentration = 0.3'
    system = load_system(write(tmp_path, "T2", potential))
    for shift, expected in ((0.0, "AB"), (0.1, "F")):
        flow, weighted, u, own = uniform_run(system, shift)
        result = judged(flow, weighted, integrate_on_grid(u, flow.flow), own)
        assert result.grade in expected
        check = next(c for c in result.checks if c.name == "ln Z on a grid")
        assert "2 pi/256" in check.explanation


def test_what_a_grid_says_of_a_flow_that_is_not_normalised(tmp_path):
    system = load_system(write(tmp_path, "T1", 'kind = "torus_mixture"\ncentres = [[1.0]]'))
    flow, _, u, _ = uniform_run(system)
    assert integrate_on_grid(u, flow.flow).converged
    less = SimpleNamespace(log_prob=lambda x: flow.flow.log_prob(x) - 1e-3)
    assert not integrate_on_grid(u, less).converged


def test_the_divergence_leaves_out_what_has_no_weight():
    """A density of exp(-u) that is 1 on a quarter of what a uniform flow covers: KL is zero."""
    work = torch.tensor([0.0, math.inf, math.inf, math.inf] * 100, dtype=torch.float64)
    weighted = Weighted({"work": work}, fep(work.numpy()))
    assert divergence(weighted, None) == pytest.approx(0.0, abs=1e-12)


def broken_system(defect, tmp_path=None):
    from pathlib import Path
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = write(Path(folder), "T2", f'kind = "broken"\nkind_of_defect = "{defect}"')
        return load_system(path, energies={"broken": Broken})


def test_broken_energies_are_refused():
    for defect in ("nan", "-inf"):
        with pytest.raises(InputError, match="NaN or -inf"):
            broken_system(defect)
        system = load_system("torus/unimodal")
        with pytest.raises(EnergyError, match="NaN or -inf"):
            free_energy(replace(system, energy=Broken(defect)), seed=0)
    with pytest.raises(InputError, match="shape"):
        broken_system("shape")


class Values(Energy):
    """Values from NumPy, without any gradient."""

    def forward(self, x):
        found = -np.cos(x.numpy()[:, 0]) - 0.5 * np.cos(x.numpy()).sum(1)
        return torch.from_numpy(found)


class Shut(Energy):
    """Infinite on a share of the circle."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x):
        return torch.where(x[:, 0] < 2.0 * math.pi * self.share, math.inf, x[:, 0].cos())


class Uneven(Energy):
    """Differs at q and -q."""

    def forward(self, x):
        return x[:, 1]


class Callable:
    """Not an Energy."""

    def __call__(self, x):
        return x.cos().sum(-1)


@pytest.mark.usefixtures("small_maps")
def test_energies_of_one_s_own(tmp_path):
    """Values are enough, infinite ones too, and what cannot be an energy says why."""
    own = 'kind = "own"'
    system = load_system(write(tmp_path, "T1", own), energies={"own": Values})
    result = free_energy(system, seed=0)
    assert abs(result.value - math.log(2.0 * math.pi * np.i0(1.5))) < 5.0 * result.stderr + 1e-9
    short = ReplayPlan(rounds=3, fresh=1024, updates=10, batch=128, learning_rate=1e-2)
    plan = DensityPlan(replays=1, replay=short, contest=short)
    system = load_system(write(tmp_path, "T3", own), energies={"own": Values})
    u = checked(system)
    assert not u.has_gradient(system.manifold.uniform(8, stream(0, "x")))
    trained = trained_flow(u, Architecture(), Run(system.name, Settings()), plan)
    assert "splines" in trained.name
    assert trained.loss < 0.5
    path = write(tmp_path, "T1", f"{own}\nshare = 0.97")
    load_system(path, energies={"own": Shut})
    with pytest.raises(InputError, match="finite energy somewhere"):
        load_system(write(tmp_path, "T1", f"{own}\nshare = 1.0"), energies={"own": Shut})
    with pytest.raises(InputError, match=r"a subclass of helmflow\.energies\.base\.Energy"):
        load_system(write(tmp_path, "T1", own), energies={"own": Callable})


@pytest.mark.parametrize(
    ("manifold", "potential", "message"),
    [
        ("S3", 'kind = "sphere_mixture"\ncentres = [[0.0, 0.0, 1.0]]', "manifold: expected 2"),
        ("T1 x R1", 'kind = "torus_mixture"\ncentres = [[0.0, 1.0]]', "manifold: expected T2"),
        ("S2", 'kind = "torus_mixture"\ncentres = [[0.0, 1.0]]', "manifold: expected T2"),
        ("T2", 'kind = "sphere_mixture"\ncentres = [[0.0, 0.0, 1.0]]', "manifold: expected S2"),
        ("T2", 'kind = "torus_mixture"\ncentres = [[120.0, 60.0]]', "radians"),
        ("S2", 'kind = "sphere_mixture"\ncentres = [[0.0, 0.0, 1.0], [0, 0, 1]]', "coincide"),
        ("SO3", 'kind = "sphere_mixture"\ncentres = [[1, 0, 0, 0]]', "one energy for both rows"),
        ("S3", 'kind = "matrix_fisher"\nparameter = [[1,0,0],[0,1,0],[0,0,1]]', "expected SO3"),
        ("R1 x SO3", 'kind = "uneven"', "one energy for both rows of a point of R1 x SO3"),
        ("Q3", 'kind = "sphere_mixture"\ncentres = [[0.0, 0.0, 1.0]]', "manifold: expected"),
        ("S2", 'kind = "sphere_mixture"\ncentres = [[0.0, 0.0, 2.0]]', "unit vectors"),
        ("T2", 'kind = "torus_mixtures"\ncentres = [[0.0, 1.0]]', "torus_mixture"),
        ("T2", 'kind = "torus_mixture"\ncenters = [[0.0, 1.0]]', "centres"),
    ],
)
def test_mistakes_in_files(tmp_path, manifold, potential, message):
    with pytest.raises(InputError, match=message):
        load_system(write(tmp_path, manifold, potential), energies={"uneven": Uneven})
