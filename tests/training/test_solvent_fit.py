"""Maps of a solvent around a solute, fitted and trained, on a few dozen particles."""

import pytest
import torch

import small_solvent as small
from assertions import assert_consistent
from helmflow.bijectors.base import Identity
from helmflow.bijectors.moved_molecules import Surroundings
from helmflow.errors import InputError
from helmflow.families.growth.growth_path import record
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.streams import stream
from helmflow.training.map_fit import TwoStates
from helmflow.training.map_training import held_dissipation
from helmflow.training.periodic_fit import PeriodicFit
from helmflow.training.plan import TrainingPlan
from helmflow.training.solvent_fit import SolventFit

N = 24
CUBE = small.BOX * torch.eye(3, dtype=torch.float64)
AROUND = Surroundings(N, [[i] for i in range(N)], [], CUBE)
PATH = small.path(N)
PLAN = TrainingPlan(steps=25, batch=16, learning_rate=4e-3, clip_norm=100.0)


def slopes(x, lam):
    _, slope, gradient = PATH.evaluate(x, torch.full((len(x),), lam, dtype=torch.float64))
    return slope, gradient


@pytest.fixture(scope="module")
def samples():
    chains = PATH.chains((0.0, 1.0), (40, 40), stream(0, "ends"))
    found = record(chains, 20, 2)
    return [half.flatten(0, 1) for half in torch.split(found, 40, dim=1)]


def states(samples):
    x, y = samples
    u_a, u_b = (s.reduced_potential for s in PATH.states)
    return TwoStates(u_a, u_b, x[:320], y[:320], x[320:400], y[320:400])


def test_fitted_to_both_ends_alone_it_beats_no_map(samples):
    fit = SolventFit(AROUND, slopes)
    found = targeted_fep(*PATH.states, *samples, map=fit)
    assert found.mapped.method == "bar, fitted transport map"
    assert found.variance_reduction > 2.5
    assert_consistent(
        found.mapped.value,
        found.mapped.stderr,
        found.plain.value,
        resolve=5.0 * found.plain.stderr,
    )
    for one in fit.fitted:
        fitted, judged = one.residual
        assert fitted < judged < one.without


def test_the_same_seen_from_a_particle_that_is_the_solute(samples):
    """Particle 0 moved to the origin, where the others see it; all of them shifted with it."""
    around = Surroundings(N + 1, [[i] for i in range(1, N + 1)], [0], CUBE)
    fit, moved = SolventFit(AROUND, slopes), SolventFit(around, with_solute(slopes))
    x = samples[0]
    held = states(samples)
    plain = fit.fit(held, stream(0, "fit"))
    also = moved.fit(shifted(held), stream(0, "fit"))
    by = torch.tensor([0.3, 0.1, 0.7], dtype=torch.float64)
    rows = torch.cat([torch.zeros(5, 1, 3, dtype=torch.float64), x[:5]], 1) + by
    expected, log_det = plain.forward(x[:5])
    got, its_log_det = also.forward(rows)
    torch.testing.assert_close(got[:, 1:] - by, expected, rtol=0.0, atol=1e-6)
    torch.testing.assert_close(its_log_det, log_det, rtol=0.0, atol=1e-6)


def with_solute(function):
    def slopes(x, lam):
        slope, gradient = function(x[:, 1:] - x[:, :1], lam)
        return slope, torch.cat([-gradient.sum(1, keepdim=True), gradient], 1)

    return slopes


def shifted(held):
    def add(x):
        solute = torch.rand(len(x), 1, 3, generator=stream(1, "s"), dtype=torch.float64)
        return torch.cat([solute, x + solute], 1)

    def of(u):
        return lambda x: u(x[:, 1:] - x[:, :1])

    sides = (add(side) for side in (held.x_a, held.x_b, held.held_a, held.held_b))
    return TwoStates(of(held.u_a), of(held.u_b), *sides)


def test_a_map_that_does_not_help_is_replaced_by_none(samples):
    x, _ = samples
    u = PATH.states[0].reduced_potential
    same = TwoStates(u, u, x[:320], x[320:640], x[640:720], x[720:])
    fit = SolventFit(AROUND, lambda x, lam: slopes(x, 0.0))
    assert isinstance(fit.fit(same, stream(0, "fit")), Identity)


def test_only_cubes():
    brick = torch.diag(torch.tensor([5.0, 5.0, 6.0], dtype=torch.float64))
    with pytest.raises(InputError, match="box: expected a cube"):
        SolventFit(Surroundings(N, [[0]], [], brick), slopes)


def small_net(**options):
    return PeriodicFit(AROUND, plan=PLAN, n_bins=6, n_frequencies=2, width=16, **options)


@pytest.mark.parametrize("two_sided", [True, False], ids=["both sides", "one side"])
def test_trained_couplings_start_as_nothing_and_lower_the_dissipation(samples, two_sided):
    fit, held = small_net(two_sided=two_sided), states(samples)
    made = fit.fit(held, stream(0, "fit"))
    (trained,) = fit.trained
    assert trained.before == pytest.approx(held_dissipation(Identity(), held))
    assert trained.best == pytest.approx(held_dissipation(made, held))
    # One side alone is free to leave samples of the other behind: it is stopped when it does.
    assert trained.best <= trained.before * (0.9 if two_sided else 1.0)
    assert fit.name == "trained periodic"


def test_trained_on_top_of_the_fitted_map(samples):
    fitted = SolventFit(AROUND, slopes)
    fit, held = small_net(first=fitted), states(samples)
    made = fit.fit(held, stream(0, "fit"))
    (trained,) = fit.trained
    first = fitted.fit(held, stream(0, "fit"))
    assert trained.before == pytest.approx(held_dissipation(first, held), abs=1e-3)
    assert trained.best <= trained.before
    assert fit.name == "trained on fitted transport"
    with torch.no_grad():
        y, log_det = made.forward(held.x_a[:3])
        back, minus = made.inverse(y)
    torch.testing.assert_close(back, held.x_a[:3], rtol=0.0, atol=1e-2)
    torch.testing.assert_close(minus, -log_det, rtol=0.0, atol=0.2)


def test_a_fitted_transport_refuses_to_be_differentiated(samples):
    made = SolventFit(AROUND, slopes).fit(states(samples), stream(0, "fit"))
    with pytest.raises(InputError, match="without a gradient"):
        made.forward(samples[0][:2].clone().requires_grad_())
