import numpy as np
import pytest
import torch

import gaussian_pair as pair
from assertions import assert_calibrated, assert_consistent
from exact import NormalState, autoregressive
from helmflow.errors import InputError
from helmflow.families.two_states.multistate import multistate


def ladder(k=4, d=3):
    return [
        NormalState(torch.full((d,), 0.5 * i).double(), torch.full((d,), 0.85**i).double())
        for i in range(k)
    ]


def run(n=500):
    generator = torch.Generator().manual_seed(0)
    states = ladder()
    samples = [state.sample(n, generator) for state in states]
    return multistate([s.reduced_potential for s in states], samples)


def test_against_the_exact_answer():
    found, states = run(), ladder()
    exact = states[-1].free_energy - states[0].free_energy
    assert_consistent(found.result.value, found.result.stderr, exact, resolve=1.0)
    assert found.result.grade == "A"
    assert [row.method for row in found.result.estimates][:2] == ["mbar", "bar, summed"]
    arrays = found.arrays()
    assert arrays["u_kn"].shape == (4, 2000)
    assert arrays["overlap"].shape == (4, 4)
    assert arrays["convergence_forward"][-1] == pytest.approx(found.result.value)


def test_errors_of_trajectories_are_calibrated():
    """Samples that remember, 2 tau_int = 19 for linear functions."""
    states = ladder(3)
    exact = states[-1].free_energy - states[0].free_energy
    z = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        series = [torch.from_numpy(autoregressive(rng, 3, 600, 0.9).T.copy()) for _ in states]
        samples = [s.mean + s.width * x for s, x in zip(states, series, strict=True)]
        found = multistate([s.reduced_potential for s in states], samples).result
        z.append((found.value - exact) / found.stderr)
    assert_calibrated(np.array(z))


def test_pymbar_takes_what_it_gives():
    import pymbar

    made = run(100).as_pymbar()
    solver = pymbar.MBAR(made["u_kn"], made["N_k"], solver_protocol="robust")
    theirs = solver.compute_free_energy_differences()
    np.testing.assert_allclose(theirs["Delta_f"], made["Delta_f"], atol=1e-5)


def test_u_nk_has_a_row_per_sample_and_a_column_per_state():
    assert run(100).u_nk().shape == (400, 4)


def test_states_that_do_not_overlap_are_graded_f():
    generator = torch.Generator().manual_seed(0)
    near, far = ladder(2)
    far = NormalState(far.mean + 6.0, far.width)
    samples = [near.sample(60, generator), far.sample(60, generator)]
    found = multistate([near.reduced_potential, far.reduced_potential], samples)
    assert found.result.grade == "F"


def test_mistakes():
    with pytest.raises(InputError, match="samples"):
        multistate([lambda x: x.sum(1)], [torch.zeros(9, 2)])


def test_exchanged_samples_are_graded_f():
    states = ladder(3)
    generator = torch.Generator().manual_seed(0)
    x, y, z = (state.sample(500, generator) for state in states)
    found = multistate([s.reduced_potential for s in states], [z, y, x])
    assert found.result.grade == "F"
    assert "bounds in order" in found.result.reason


def test_forces_tell_which_samples_are_not_of_their_state():
    states, samples = pair.states(), pair.samples(1000)
    middle = pair.samples(1000, seed=1)[0]
    good = multistate([states[0], *states], [middle, *samples])
    belong = {c.name: c for c in good.result.checks if "at their state" in c.name}
    assert len(belong) == 3
    assert all(c.passed for c in belong.values())
    wrong = multistate([states[0], *states], [middle, *reversed(samples)])
    belong = [c for c in wrong.result.checks if "at their state" in c.name]
    assert belong[0].passed
    assert not belong[2].passed
    assert wrong.result.grade == "F"


def test_a_drift_at_the_beginning_is_left_out_if_asked():
    states = ladder(3)
    generator = torch.Generator().manual_seed(0)
    drift = 4.0 * torch.exp(-torch.arange(2000.0).double() / 50.0)[:, None]
    samples = [state.sample(2000, generator) + drift for state in states]
    u = [s.reduced_potential for s in states]
    exact = states[-1].free_energy - states[0].free_energy
    all_of_it, settled = (multistate(u, samples, equilibrate=e).result for e in (False, True))
    assert_consistent(settled.value, settled.stderr, exact, resolve=0.2)
    assert settled.grade == "A"
    assert settled.stderr < 0.8 * all_of_it.stderr
    (check,) = [c for c in settled.checks if c.name == "frames before equilibrium"]
    assert 50 <= check.value * 2000 < 1000
    assert "frames left out" in check.explanation


def test_series_of_replicas_are_named():
    states = ladder(3)
    generator = torch.Generator().manual_seed(0)
    of_states = torch.stack([state.sample(600, generator) for state in states])
    # replicas that visit every state in turn
    turns = torch.stack([torch.roll(torch.arange(600) % 3, k) for k in range(3)])
    replicas = [of_states[turn, torch.arange(600)] for turn in turns]
    found = multistate([s.reduced_potential for s in states], replicas).result
    assert found.grade == "F"
    (check,) = [c for c in found.checks if c.name == "forward against reverse"]
    assert not check.passed
    assert "not sorted by state" in check.explanation
