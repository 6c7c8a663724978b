import numpy as np
import pytest
import torch

import dipeptide
from exact import NormalState
from helmflow.bijectors.base import Bijector
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.training.map_fit import TwoStates
from helmflow.training.map_training import held_dissipation, train_map
from helmflow.training.molecule_fit import MoleculeFit
from helmflow.training.plan import TrainingPlan

PLAN = TrainingPlan(steps=25, batch=32, clip_norm=100.0)


@pytest.fixture(scope="module")
def samples():
    return dipeptide.samples(1000)


def test_gaussian_map_of_the_dipeptide(samples):
    found = targeted_fep(*dipeptide.states(), *samples, map=MoleculeFit(22, dipeptide.bonds()))
    assert found.mapped.method == "bar, internal gaussian map"
    assert found.variance_reduction > 1.2
    scale = np.hypot(found.mapped.stderr, found.plain.stderr)
    assert abs(found.mapped.value - found.plain.value) < 4.0 * scale
    _, fitted, evaluated, without = (o.value for o in found.result.observables)
    assert fitted < evaluated < without


@pytest.mark.parametrize("two_sided", [True, False], ids=["both sides", "one side"])
def test_training_keeps_the_best_weights_on_held_out_samples(samples, two_sided):
    u_a, u_b = (state.reduced_potential for state in dipeptide.states())
    x, y = samples
    states = TwoStates(u_a, u_b, x[:200], y[:200], x[200:300], y[200:300])
    fit = MoleculeFit(22, dipeptide.bonds(), plan=PLAN, two_sided=two_sided)
    bijector = fit.fit(states, torch.Generator().manual_seed(0))
    (trained,) = fit.trained
    assert trained.best <= min(trained.before, trained.last)
    assert held_dissipation(bijector, states) == pytest.approx(trained.best)
    plain = MoleculeFit(22, dipeptide.bonds()).fit(states, torch.Generator().manual_seed(0))
    assert held_dissipation(plain, states) == pytest.approx(trained.before)


class Shift(Bijector):
    """One trainable shift."""

    def __init__(self):
        super().__init__()
        self.by = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x):
        return x + self.by, x.new_zeros(len(x))

    def inverse(self, y):
        return y - self.by, y.new_zeros(len(y))


@pytest.mark.parametrize("two_sided", [True, False])
def test_training_finds_the_exact_shift_between_two_wells(two_sided):
    one = torch.ones(2, dtype=torch.float64)
    a, b = NormalState(0.0 * one, one), NormalState(1.5 * one, one)
    generator = torch.Generator().manual_seed(0)
    draws = [s.sample(n, generator) for n in (400, 100) for s in (a, b)]
    states = TwoStates(a.reduced_potential, b.reduced_potential, *draws)
    bijector = Shift()
    plan = TrainingPlan(steps=150, batch=100, learning_rate=0.05)
    trained = train_map(bijector, states, plan, generator, two_sided=two_sided)
    torch.testing.assert_close(bijector.by.detach(), 1.5 * one, rtol=0.0, atol=0.15)
    assert trained.best < 0.2 < trained.before


def test_training_ends_when_held_out_samples_say_so():
    """Already at the best map: half of the steps, and the map as it was."""
    one = torch.ones(2, dtype=torch.float64)
    a = NormalState(0.0 * one, one)
    generator = torch.Generator().manual_seed(0)
    draws = [a.sample(n, generator) for n in (40, 40, 4000, 4000)]
    states = TwoStates(a.reduced_potential, a.reduced_potential, *draws)
    bijector = Shift()
    trained = train_map(bijector, states, TrainingPlan(300, 40, 0.5), generator)
    assert trained.last_step == 150
    assert trained.best_step == 0
    assert trained.last > trained.best == trained.before
    assert not bijector.by.any()
