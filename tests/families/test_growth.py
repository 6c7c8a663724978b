import numpy as np
import pytest
import torch

from assertions import assert_consistent
from helmflow.errors import InputError
from helmflow.estimators.nodes import Nodes
from helmflow.families import run
from helmflow.families.growth.estimates import GrowthPlan
from helmflow.families.growth.family import growth_path, scaled_plan
from helmflow.families.growth.growth_path import lattice_around
from helmflow.results import RunDirectory
from helmflow.settings import SamplingSettings, Settings
from helmflow.skeleton.budget import BudgetError
from helmflow.skeleton.run import Run
from helmflow.system import load_system
from helmflow.training.transport_fit import fit_transport, residual
from small_solvent import grown

TINY = GrowthPlan(
    path_chains=(4, 4, 4, 4, 4), path_records=30, end_chains=16, end_records=8, n_steps=1
)
SMALL = GrowthPlan(
    path_chains=(16, 16, 16, 16, 16), path_records=40, end_chains=30, end_records=20, n_steps=2
)


def run_of(seed, *more, limit=None):
    return Run("solvent", Settings(seed=seed, max_evaluations=limit), *more)


@pytest.fixture(scope="module")
def found():
    return grown(SMALL, run_of(1))


def test_map_and_integration_agree_and_beat_their_plain_forms(found):
    mapped, plain = found.mapped, found.comparison.plain
    integral = found.path.integral
    assert found.comparison.variance_reduction > 4.0
    assert integral.stderr < 0.8 * found.path.plain_integral.stderr
    assert_consistent(
        mapped.value, np.hypot(mapped.stderr, integral.stderr), integral.value, resolve=0.5
    )
    assert abs(mapped.value - plain.value) < 5.0 * plain.stderr
    assert found.combined.stderr < min(mapped.stderr, integral.stderr)
    low, high = sorted([mapped.value, integral.value])
    assert low <= found.combined.value <= high


def test_the_fit_judges_itself_on_samples_it_has_not_seen(found):
    fitted, judged = found.path.fit.residual
    assert fitted < judged < found.path.fit.without


@pytest.mark.slow
def test_same_seed_same_numbers():
    once, again, other = (grown(TINY, run_of(seed)).combined.value for seed in (1, 1, 2))
    assert once == again != other


def test_step_doubling_does_not_change_the_map(found):
    (bijector,) = found.comparison.through.bijectors
    x = torch.stack([lattice_around(24, 5.0)] * 3)
    x[1:] += 0.05 * torch.randn(2, 24, 3, generator=torch.Generator().manual_seed(0)).double()
    y, log_det = bijector.forward(x)
    bijector.n_steps *= 2
    finer, finer_log_det = bijector.forward(x)
    bijector.n_steps //= 2
    torch.testing.assert_close(finer, y, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(finer_log_det, log_det, rtol=0.0, atol=5e-3)


def nodes_of(lam, weight, work, stein):
    lam, weight = np.array(lam), np.array(weight)
    return Nodes(lam, weight, [w[None] for w in work], [s[:, None] for s in stein])


def test_fit_recovers_a_field_that_explains_everything():
    rng = np.random.default_rng(0)
    lam, work, stein = (0.0, 0.5, 1.0), [], []
    for t in lam:
        stein.append(rng.normal(size=(4, 400)))
        work.append(np.array([1.0, -0.5 + t, 0.3 * t**2, 0.0]) @ stein[-1] + 7.0)
    nodes = nodes_of(lam, (0.25, 0.5, 0.25), work, stein)
    fit = fit_transport(nodes, np.array([0, 0, 1, 1]), ridges=(1e-8,))
    assert residual(nodes, fit.coefficients) < 1e-10
    assert fit.without > 0.5
    with pytest.raises(InputError, match="samples"):
        fit_transport(nodes_of((0.0,), (1.0,), [np.zeros(3)], [np.zeros((1, 3))]), np.zeros(1))


def test_a_larger_ridge_wins_when_there_is_only_noise():
    rng = np.random.default_rng(1)
    noise = [(rng.normal(size=200), rng.normal(size=(60, 200))) for _ in range(2)]
    nodes = nodes_of((0.0, 1.0), (0.5, 0.5), *zip(*noise, strict=True))
    fit = fit_transport(nodes, np.zeros(60), ridges=(1e-6, 1e2))
    assert fit.ridge == 1e2


def test_shipped_system_through_the_ordinary_pipeline(monkeypatch):
    system = load_system("solvation/wca_125")
    assert growth_path(system).radii == (2.597403, 2.844438)
    monkeypatch.setattr("helmflow.families.growth.family.scaled_plan", lambda error: TINY)
    result = run(system, Settings(seed=3), None, lambda event: None)
    assert result.quantity == "free_energy_difference"
    assert result.system == "solvation/wca_125"
    assert abs(result.value - 33.54) < 5.0 * result.stderr
    assert result.references[0].value == 33.447
    assert [e.method for e in result.estimates][:3] == [
        "bar and ti+cv",
        "bar, fitted transport map",
        "ti+cv",
    ]
    assert result.cost.energy_evaluations == TINY.n_evaluations
    with pytest.raises(InputError, match="method"):
        run(system, Settings(method="fep"), None, lambda event: None)
    sampling = SamplingSettings(chains=8)
    with pytest.raises(InputError, match=r"sampling.chains: expected none"):
        run(system, Settings(sampling=sampling), None, lambda event: None)


def test_a_budget_that_does_not_reach_the_end_is_refused_before_anything_is_sampled():
    least = TINY.n_evaluations
    short = run_of(3, limit=least - 1)
    with pytest.raises(BudgetError, match=f"at least {least}"):
        grown(TINY, short)
    assert short.budget.evaluations == 0


def test_plan_grows_with_the_precision_asked_for():
    assert scaled_plan(0.0125).path_records == GrowthPlan().path_records
    assert scaled_plan(0.00625).end_records == 4 * GrowthPlan().end_records
    assert scaled_plan(10.0).end_records == 8


def test_only_the_radius_may_change(tmp_path):
    text = load_system("solvation/wca_125").path.read_text()
    for line, message in (
        ("box = 7.0", "final.box"),
        ("raduis = 3.0", "final.raduis: expected a key of"),
        ('kind = "phi4"', "final.kind"),
    ):
        file = tmp_path / "own.toml"
        file.write_text(text.replace("radius = 2.844438", f"radius = 2.844438\n{line}"))
        with pytest.raises(InputError, match=message):
            growth_path(load_system(file))


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("stage", ["ends", "map"])
def test_a_killed_run_goes_on_with_the_same_numbers(stage, tmp_path):
    limit = TINY.n_evaluations
    first = run_of(3, limit=limit)
    whole = grown(TINY, first)
    directory = RunDirectory.create(tmp_path / "run", "", "digest")

    def fuse(event):
        if event.stage == stage:
            raise Killed

    with pytest.raises(Killed):
        grown(TINY, run_of(3, directory, fuse, limit=limit))
    resumed, stages = RunDirectory.resume(tmp_path / "run", "digest"), []
    second = run_of(3, resumed, lambda event: stages.append(event.stage), limit=limit)
    again = grown(TINY, second)
    assert stages == (["ends", "map"] if stage == "ends" else ["map"])
    assert again.combined == whole.combined
    for name in ("integral", "plain_integral"):
        assert getattr(again.path, name) == getattr(whole.path, name)
    assert first.budget.evaluations == second.budget.evaluations <= limit
