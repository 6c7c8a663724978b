import math

import numpy as np
import pandas as pd
import pytest
import torch

import gaussian_pair as pair
from assertions import assert_calibrated, assert_consistent
from exact import NormalState, autoregressive
from helmflow.bijectors.affine import Affine
from helmflow.errors import EnergyError, InputError
from helmflow.estimators.bar import bar
from helmflow.estimators.fep import fep
from helmflow.families.two_states.comparison import Comparison
from helmflow.families.two_states.difference import difference
from helmflow.families.two_states.mapped import Mapped
from helmflow.families.two_states.targeted import targeted_fep
from helmflow.families.two_states.two_sided import Works
from helmflow.families.two_states.two_sided_checks import chance_of_quarters
from helmflow.training.map_fit import GaussianFit, two_works

WIDE = NormalState(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
NARROW = NormalState(
    torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64),
    torch.tensor([0.5, 0.8, 0.6], dtype=torch.float64),
)
EXACT = NARROW.free_energy - WIDE.free_energy


def partial_map():
    """Half of the way: shifts and scales in the right direction, not to the end."""
    return Affine(
        torch.tensor([0.7, 0.9, 0.8], dtype=torch.float64),
        torch.tensor([0.6, 0.2, 0.1], dtype=torch.float64),
    )


def run(n=2000, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    x, y = WIDE.sample(n, generator), NARROW.sample(n, generator)
    return targeted_fep(WIDE.reduced_potential, NARROW.reduced_potential, x, y, **options)


def test_without_a_map_it_is_bar():
    generator = torch.Generator().manual_seed(0)
    x, y = WIDE.sample(500, generator), NARROW.sample(500, generator)
    found = targeted_fep(WIDE.reduced_potential, NARROW.reduced_potential, x, y)
    u_a, u_b = WIDE.reduced_potential, NARROW.reduced_potential
    expected = bar(u_b(x) - u_a(x), u_a(y) - u_b(y), g=found.works.g)
    assert found.result.value == expected.value
    assert found.result.stderr == expected.stderr
    assert found.mapped is None
    assert found.variance_reduction == 1.0
    assert_consistent(found.result.value, found.result.stderr, EXACT, resolve=1.0)


def test_a_finished_map_is_used_on_all_samples():
    found = run(map=partial_map())
    assert found.works.forward.size == 2000
    assert found.variance_reduction > 2.0
    assert found.result.method == "bar, affine map"
    assert_consistent(found.result.value, found.result.stderr, EXACT, resolve=0.2)


def test_a_fitted_map_never_sees_the_samples_it_is_used_on():
    seen = []

    class Spy(GaussianFit.__mro__[1]):
        name = "spy"

        def fit(self, states, generator):
            seen.append(torch.cat([states.x_a, states.held_a]))
            return partial_map()

    generator = torch.Generator().manual_seed(3)
    x, y = WIDE.sample(100, generator), NARROW.sample(100, generator)
    targeted_fep(WIDE.reduced_potential, NARROW.reduced_potential, x, y, map=Spy())
    assert torch.equal(seen[0], x[50:])  # used on the first half
    assert torch.equal(seen[1], x[:50])
    seen.clear()
    one = targeted_fep(WIDE.reduced_potential, NARROW.reduced_potential, x, y, map=Spy(), folds=1)
    assert len(seen) == 1
    assert torch.equal(seen[0], x[:50])
    assert one.works.forward.size in (50, 100)


def test_fitted_gaussian_map_is_nearly_exact_and_says_how_much_it_overfits():
    found = run(map=GaussianFit())
    assert found.variance_reduction > 50.0
    assert_consistent(found.result.value, found.result.stderr, EXACT, resolve=0.05)
    _, fitted, evaluated, without = (o.value for o in found.result.observables)
    assert fitted < evaluated < 0.1 * without
    assert found.result.grade == "A"


def test_overfitting_shows_in_the_observables_and_not_in_the_estimate():
    """A map fitted to 40 samples in 12 dimensions with no shrinkage at all."""
    d = 12
    wide = NormalState(torch.zeros(d).double(), torch.ones(d).double())
    narrow = NormalState(0.3 * torch.ones(d).double(), 0.8 * torch.ones(d).double())
    generator = torch.Generator().manual_seed(5)
    found = targeted_fep(
        wide.reduced_potential,
        narrow.reduced_potential,
        wide.sample(100, generator),
        narrow.sample(100, generator),
        map=GaussianFit(shrinkage=(0.0,)),
    )
    _, fitted, evaluated, _ = (o.value for o in found.result.observables)
    assert fitted < 0.5 * evaluated
    exact = narrow.free_energy - wide.free_energy
    assert abs(found.mapped.value - exact) < 5.0 * found.mapped.stderr


def replica(seed, n=300):
    generator = torch.Generator().manual_seed(seed)
    x, y = WIDE.sample(n, generator), NARROW.sample(n, generator)
    works = two_works(partial_map(), WIDE.reduced_potential, NARROW.reduced_potential, x, y)
    return [w.numpy() for w in works]


def z_scores(estimates, truth):
    return np.array([(e.value - truth) / e.stderr for e in estimates])


@pytest.fixture(scope="module")
def replicas():
    return [replica(seed) for seed in range(300)]


def test_errors_are_calibrated(replicas):
    assert_calibrated(z_scores([bar(f, r) for f, r in replicas], EXACT))
    assert_calibrated(z_scores([fep(f) for f, _ in replicas], EXACT))


def correlated(seed, n=800, r=0.9):
    """Trajectories of both states whose samples remember: 2 tau_int = 19 for linear functions."""
    rng = np.random.default_rng(seed)
    for state in (WIDE, NARROW):
        series = torch.from_numpy(autoregressive(rng, 3, n, r).T.copy())
        yield state.mean + state.width * series


def test_errors_of_trajectories_are_calibrated():
    """Counting every sample as a new one would make them four times too small."""
    states = WIDE.reduced_potential, NARROW.reduced_potential
    found = [targeted_fep(*states, *correlated(k), map=partial_map()) for k in range(40)]
    assert_calibrated(z_scores([f.plain for f in found], EXACT))
    assert_calibrated(z_scores([f.mapped for f in found], EXACT))


def test_quarters_that_disagree_cost_everything():
    """A trajectory that wanders off and comes back: F, with a map or without."""
    generator = torch.Generator().manual_seed(0)
    x, y = WIDE.sample(800, generator), NARROW.sample(800, generator)
    x[200:400] += 0.7
    x[600:] -= 0.7
    for bijector in (None, partial_map()):
        found = targeted_fep(WIDE.reduced_potential, NARROW.reduced_potential, x, y, map=bijector)
        assert chance_of_quarters(found.works) < 1e-6
        assert found.result.grade == "F"
        assert "quarters agree" in found.result.reason


def test_a_map_whose_quarters_disagree_is_not_the_headline():
    """However small its error, when the estimate without a map repeats."""

    good = run(n=800)
    assert chance_of_quarters(good.works) > 1e-3
    shifts = np.repeat([0.0, 0.02, -0.016, 0.032], 200)
    noise = 0.01 * good.works.forward
    drifting = Works(noise + shifts, good.works.reverse * 0.01 - shifts)
    mapped = Mapped(drifting, good.works, (), "fickle")
    found = Comparison(difference("quarters", None), good.works, mapped)
    assert found.mapped.stderr < found.plain.stderr
    assert found.works is good.works
    assert found.finding().headline.method == "bar"


@pytest.mark.parametrize("mutant", ["no log-det", "log-det flipped", "reverse negated"])
def test_mutants_are_caught(replicas, mutant):
    log_det = math.log(0.7 * 0.9 * 0.8)
    change = {
        "no log-det": lambda f, r: (f + log_det, r - log_det),
        "log-det flipped": lambda f, r: (f + 2 * log_det, r - 2 * log_det),
        "reverse negated": lambda f, r: (f, -r),
    }[mutant]
    wrong = [change(*both) for both in replicas]
    with pytest.raises(AssertionError, match="z ="):
        assert_calibrated(z_scores([bar(f, r) for f, r in wrong], EXACT))


def test_shapes_for_other_packages():
    found = run(n=200, map=partial_map())
    made = found.as_pymbar()
    import pymbar

    theirs = pymbar.bar(made["w_F"], made["w_R"])
    assert theirs["Delta_f"] == pytest.approx(made["Delta_f"], abs=1e-6)
    frame = found.u_nk()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == [0.0, 1.0]


def test_openmm_states_know_their_unit():
    found = targeted_fep(*pair.states(), *pair.samples(400), map=GaussianFit())
    assert_consistent(found.result.value, found.result.stderr, pair.DELTA_F, resolve=0.2)
    kj = {row.unit: row.value for row in found.result.other_units}["kJ/mol"]
    assert kj == pytest.approx(pair.KT * found.result.value)
    assert found.temperature == pytest.approx(300.0)
    assert found.result.n_particles == 3
    assert found.result.grade == "A"


def test_exchanged_samples_are_graded_f():
    found = targeted_fep(*pair.states(), *reversed(pair.samples(400)))
    assert found.result.grade == "F"
    assert "bounds in order" in found.result.reason
    assert "are at their state" in found.result.reason


def test_samples_of_another_temperature_are_noticed():
    x, y = pair.samples(2000)
    hot = torch.from_numpy(pair.CENTRES) + (x - torch.from_numpy(pair.CENTRES)) * math.sqrt(1.3)
    found = targeted_fep(*pair.states(), hot, y)
    check = next(c for c in found.result.checks if c.name.startswith("samples of A"))
    assert not check.passed
    good = next(c for c in found.result.checks if c.name.startswith("samples of B"))
    assert good.passed


def test_states_without_overlap_are_graded_f_with_the_reason():
    far = NormalState(NARROW.mean + 40.0, NARROW.width)
    generator = torch.Generator().manual_seed(1)
    x, y = WIDE.sample(300, generator), far.sample(300, generator)
    found = targeted_fep(WIDE.reduced_potential, far.reduced_potential, x, y)
    assert found.result.grade == "F"
    assert "overlap" in found.result.reason
    assert found.result.stderr > 10.0


def test_one_configuration_that_crashes_does_not_lose_the_rest():
    generator = torch.Generator().manual_seed(2)
    x, y = WIDE.sample(400, generator), NARROW.sample(400, generator)

    def fragile(z):
        if (z == x[7]).all(-1).any():
            raise EnergyError("did not converge")
        return NARROW.reduced_potential(z)

    found = targeted_fep(WIDE.reduced_potential, fragile, x, y)
    assert math.isinf(found.works.forward[7])
    assert np.isinf(found.works.forward).sum() == 1
    assert_consistent(found.result.value, found.result.stderr, EXACT, resolve=2.0)

    def broken(z):
        raise EnergyError("no licence")

    with pytest.raises(EnergyError, match="no licence"):
        targeted_fep(WIDE.reduced_potential, broken, x, y)


def test_a_batch_of_which_nothing_can_be_evaluated_does_not_lose_the_others():
    """1025 samples go through a map as 1024 and one, and that one fails."""
    generator = torch.Generator().manual_seed(2)
    x, y = WIDE.sample(1025, generator), NARROW.sample(400, generator)
    last = partial_map()(x[-1:])[0]

    def fragile(z):
        if (z == last).all(-1).any():
            raise EnergyError("did not converge")
        return NARROW.reduced_potential(z)

    found = targeted_fep(WIDE.reduced_potential, fragile, x, y, map=partial_map())
    assert np.isinf(found.works.forward).nonzero()[0].tolist() == [1024]


def test_samples_without_an_energy_of_their_own_are_left_out():
    states, (x, y) = pair.states(), pair.samples(200)
    clash = x.clone()

    def hollow(z):
        return torch.where(z[:, 0, 0] == clash[3, 0, 0], torch.inf, states[0].reduced_potential(z))

    found = targeted_fep(hollow, states[1], x, y)
    assert found.works.forward.size == 199
    check = next(c for c in found.result.checks if c.name == "samples left out")
    assert not check.passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples_b": torch.zeros(10, 2)}, r"samples_b: expected shape \(n, 3\)"),
        ({"samples_a": torch.zeros(2, 3)}, "samples_a: expected at least 4"),
        ({"samples_a": torch.full((9, 3), torch.nan)}, "samples_a: expected finite coordinates"),
        ({"samples_a": "a.dcd"}, "samples_a: expected"),
        ({"folds": 3}, "folds"),
    ],
)
def test_mistakes(change, message):
    generator = torch.Generator().manual_seed(0)
    arguments = {
        "samples_a": WIDE.sample(10, generator),
        "samples_b": NARROW.sample(10, generator),
    } | change
    with pytest.raises(InputError, match=message) as error:
        targeted_fep(WIDE.reduced_potential, NARROW.reduced_potential, **arguments)
    assert "\n" not in str(error.value)


def test_infinite_works_do_not_break_the_series_analysis():
    works = Works(np.array([np.inf, 1.0, 2.0, 1.5, 3.0]), np.array([0.5, -1.0, 0.2, 0.1, np.inf]))
    assert all(np.isfinite(g) for g in works.g)
    assert np.isfinite(works.bar().value)


def test_sides_that_cannot_both_be_right_are_graded_f():
    """Samples of B that are shifted a little: overlap is fine, both ends contradict each other."""
    generator = torch.Generator().manual_seed(3)
    x, y = WIDE.sample(4000, generator), NARROW.sample(4000, generator)
    found = targeted_fep(WIDE.reduced_potential, NARROW.reduced_potential, x, WIDE.mean + y * 0.6)
    check = next(c for c in found.result.checks if c.name == "forward against reverse")
    assert check.value > 6.0
    assert check.severity == "hard"
    assert found.result.grade == "F"


def test_variance_reduction_is_in_the_result():
    found = run(map=partial_map())
    (gain,) = [o for o in found.result.observables if o.name == "variance reduction"]
    assert gain.value == found.variance_reduction
    assert 0.0 < gain.stderr < gain.value
    assert not run(n=50).result.observables
