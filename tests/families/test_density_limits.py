"""What runs of densities refuse: more energies than asked for, and settings they do not read."""

from dataclasses import replace

import pytest

from helmflow.errors import InputError
from helmflow.families import free_energy, run
from helmflow.families.density.family import DensityFamily
from helmflow.families.density.plan import DensityPlan
from helmflow.settings import Settings, load_settings
from helmflow.skeleton.budget import BudgetError
from helmflow.system import load_system
from helmflow.training.plan import TrainingPlan
from helmflow.training.replay import ReplayPlan

SPLINES = """
schema = 1
name = "mine"
kind = "density"
summary = "one mode"
manifold = "T3"

[potential]
kind = "torus_mixture"
centres = [[1.0, 2.0, 3.0]]
"""


@pytest.fixture
def counted(monkeypatch):
    """A system, and a list of how many energies each of its calls was asked for."""

    def load(source):
        system, calls = load_system(source), []
        forward = system.energy.forward
        monkeypatch.setattr(system.energy, "forward", lambda x: calls.append(len(x)) or forward(x))
        return system, calls

    return load


def test_no_more_energies_than_asked_for(monkeypatch, counted):
    """The fit takes what it takes; samples and grid make do with the rest."""
    monkeypatch.setattr(DensityFamily, "plan", DensityPlan(maps={"T2": ((4, 16),)}))
    system, calls = counted("torus/unimodal")
    for limit in (100, 2000):
        calls.clear()
        with pytest.raises(BudgetError, match="max_evaluations"):
            run(system, Settings(max_evaluations=limit))
        assert sum(calls) <= limit
    for limit in (10_000, 60_000):  # the samples; then the picture of the surface, not the grid
        calls.clear()
        result = run(system, Settings(max_evaluations=limit, target_error=1e-9))
        assert 4096 < sum(calls) <= limit
        assert result.cost.energy_evaluations == sum(calls)
        assert result.value_exact is None


def test_no_more_energies_than_asked_for_by_training(tmp_path, monkeypatch, counted):
    """A fit that the limit does not reach stops before it is exceeded, in every stage."""
    short = ReplayPlan(rounds=2, fresh=512, updates=2, batch=64)
    plan = DensityPlan(replays=1, replay=short, contest=short, powers=(1.0,), close=0.0)
    monkeypatch.setattr(DensityFamily, "plan", replace(plan, descent=TrainingPlan(4, 64)))
    (tmp_path / "mine.toml").write_text(SPLINES)
    system, calls = counted(tmp_path / "mine.toml")
    for limit in (50, 250, 800, 6000):
        calls.clear()
        with pytest.raises(BudgetError, match="max_evaluations"):
            run(system, Settings(max_evaluations=limit))
        assert sum(calls) <= limit
    calls.clear()
    result = run(system, Settings(max_evaluations=60_000))
    assert result.cost.energy_evaluations == sum(calls) <= 60_000


def test_methods_of_crystals_are_refused():
    with pytest.raises(InputError, match="method"):
        free_energy(load_system("torus/unimodal"), method="frenkel_ladd")


NOTHING = {
    "sampling": {"nodes": 50, "chains": 7, "max_rounds": 1},
    "training": {"objective": "forward_kl", "steps": 3, "batch": 1},
    "network": {"layers": 99},
    "flow": {"kind": "local", "start": "lattice", "sweeps": 9, "source": "runs/other"},
    "base": {"kind": "harmonic"},
}


@pytest.mark.parametrize("key", [f"{table}.{key}" for table in NOTHING for key in NOTHING[table]])
@pytest.mark.parametrize("method", DensityFamily.methods)
def test_settings_that_say_nothing_are_refused(key, method):
    table, name = key.split(".")
    refused = key if key != "flow.source" or method == "flow" else "flow"
    settings = {"method": method, table: {name: NOTHING[table][name]}}
    with pytest.raises(InputError, match=rf"^{refused}: expected .*") as mistake:
        free_energy(load_system("torus/unimodal"), settings=settings)
    assert "\n" not in str(mistake.value)


def test_settings_of_a_run_are_read_back(tmp_path):
    """Those of a run repeat every default."""
    settings = DensityFamily(load_system("torus/unimodal")).accept(Settings())
    (tmp_path / "settings.toml").write_text(settings.to_toml())
    again = load_settings(tmp_path / "settings.toml", {})
    assert DensityFamily(load_system("torus/unimodal")).accept(again) == settings
