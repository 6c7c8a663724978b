"""Planted mistakes must move a whole run by more than its error; the honest run must not."""

import math

import numpy as np
import pytest

from assertions import assert_consistent
from helmflow.estimators.nodes import Ladder
from helmflow.families import run
from helmflow.families.path import crystal
from helmflow.families.path.crystal_problem import CrystalProblem
from helmflow.families.path.lattice_problem import LatticeProblem
from helmflow.fields.local import LocalField
from helmflow.fields.pairs import PairField
from helmflow.samplers.hmc import InterpolatedHMC
from helmflow.settings import SamplingSettings, Settings
from helmflow.system import load_system

CASES = {
    "lattice/phi4_4": (2.40513896, 0.0, 0.1),
    "ice/mw_cubic_8": (-25.86531, 0.00030, 0.006),
}


def assert_right(name, method):
    """One round of fixed length, so that no mistake can make a run long."""
    truth, error, resolve = CASES[name]
    sampling = SamplingSettings(steps=40, max_rounds=1)
    settings = Settings(method=method, seed=8, sampling=sampling, target_error=1e-6)
    result = run(load_system(name), settings, None, lambda event: None)
    stderr = math.hypot(result.stderr, error)
    assert_consistent(result.value, stderr, truth, resolve=resolve)


def without_normaliser(monkeypatch):
    """Work from a base density that is not normalised."""
    init = InterpolatedHMC.init

    def mutant(self, z):
        state = init(self, z)
        return state._replace(work=state.work + self.base.log_normalizer)

    monkeypatch.setattr(InterpolatedHMC, "init", mutant)


def wrong_weights(monkeypatch):
    lobatto = Ladder.lobatto

    def mutant(n_nodes):
        ladder = lobatto(n_nodes)
        return Ladder(ladder.lam, np.roll(ladder.weight, 1))

    monkeypatch.setattr(Ladder, "lobatto", mutant)


def controls_with_a_mean(monkeypatch):
    """Stein functions whose mean is not zero: every chain is off by as much."""
    for problem in (CrystalProblem, LatticeProblem):
        fields = problem.fields

        def mutant(self, base, fields=fields):
            found = fields(self, base)
            for field in found:
                stein = field.stein
                field.stein = lambda point, stein=stein: stein(point) + 0.3
            return found

        monkeypatch.setattr(problem, "fields", mutant)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ["auto", "bar"])
def test_the_honest_run(name, method):
    assert_right(name, method)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mistake", [without_normaliser, wrong_weights])
def test_mistakes_are_noticed(mistake, name, monkeypatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError, match="z ="):
        assert_right(name, "auto")


@pytest.mark.parametrize("name", CASES)
def test_controls_that_are_off_are_noticed(name, monkeypatch):
    controls_with_a_mean(monkeypatch)
    with pytest.raises(AssertionError, match="z ="):
        assert_right(name, "auto")


MEASURES = {
    "no centre of mass": lambda n, volume, right: right - math.log(volume / n),
    "no N^(3/2)": lambda n, volume, right: right - 1.5 * math.log(n),
    "V for V/N": lambda n, volume, right: right + math.log(n),
    "wrong wavelength": lambda n, volume, right: right + 3 * n * math.log(1.001),
}


@pytest.mark.parametrize("mistake", MEASURES)
def test_a_wrong_measure_is_noticed(mistake, monkeypatch):
    right = crystal.log_measure

    def mutant(system):
        volume = abs(np.linalg.det(system.cell.numpy()))
        return MEASURES[mistake](system.n_particles, volume, right(system))

    monkeypatch.setattr(crystal, "log_measure", mutant)
    with pytest.raises(AssertionError, match="z ="):
        assert_right("ice/mw_cubic_8", "auto")


def test_traces_off_by_a_hundredth_are_graded_f(monkeypatch):
    """Of the pair functions alone: 4.5 error bars, and nothing else tells."""
    init = PairField.__init__

    def mutant(self, *args, **options):
        init(self, *args, **options)
        self._bonds = self._bonds._replace(spread=1.01 * self._bonds.spread)

    system, settings = load_system("ice/mw_cubic_64"), Settings(target_error=1.5e-4)
    assert run(system, settings, None, lambda event: None).grade == "A"
    monkeypatch.setattr(PairField, "__init__", mutant)
    result = run(system, settings, None, lambda event: None)
    assert result.grade == "F"
    assert "means of control variates" in result.reason


@pytest.mark.parametrize("name", ["ice/mw_cubic_8", "lattice/phi4_4"])
def test_control_variates_with_a_small_mean_are_graded_f(name, monkeypatch):
    """Far below the scatter of the samples without them; differences of gradients see it."""
    field = LocalField if name.startswith("lattice") else PairField
    stein = field.stein
    monkeypatch.setattr(field, "stein", lambda self, point: stein(self, point) + 0.05)
    settings = Settings(sampling=SamplingSettings(steps=40, max_rounds=1))
    result = run(load_system(name), settings, None, lambda event: None)
    assert result.grade == "F"
    assert "traces fit the gradients" in result.reason
