"""Mixed flow and HMC chains leave their target unchanged."""

import numpy as np
import pytest
import torch

from assertions import assert_consistent
from helmflow.densities.base import Density
from helmflow.densities.normal import DiagonalNormal
from helmflow.errors import EnergyError, InputError
from helmflow.estimators.diagnostics import acceptance_rate
from helmflow.samplers.mixed import MixedChains
from helmflow.streams import stream


def two_wells(x):
    """exp(-u) = exp(-2 (x^2 - 1)^2), and the gradient."""
    square = (x * x - 1.0).squeeze(1)
    return 2.0 * square.square(), 8.0 * (x * x - 1.0) * x


def exact():
    x = np.linspace(-4, 4, 20001)
    p = np.exp(-2.0 * (x * x - 1.0) ** 2)
    return float((x**2 * p).sum() / p.sum())


def proposal():
    one = torch.ones(1, dtype=torch.float64)
    return DiagonalNormal(0.3 * one, 0.9 * one)


def mixed(
    n_chains=400, trajectories=1, seed=0, potential=two_wells, flow=None, step=0.2, n_steps=5
):
    return MixedChains(
        flow or proposal(),
        potential,
        n_chains,
        step=step,
        n_steps=n_steps,
        trajectories=trajectories,
        generator=stream(seed, "mixed"),
    )


def mean_over_chains(x):
    """Mean of (cycles, chains, 1), and its error from the scatter of independent chains."""
    means = x.mean((0, 2)).numpy()
    return means.mean(), means.std(ddof=1) / np.sqrt(len(means))


@pytest.mark.parametrize("trajectories", [0, 1, 3])
def test_target_is_left_unchanged(trajectories):
    chains = mixed(1000, trajectories)
    chains.run(30)
    x = chains.run(60)
    assert_consistent(*mean_over_chains(x.square()), exact(), resolve=0.05)
    assert_consistent(*mean_over_chains(x), 0.0, resolve=0.15)


def test_a_stale_weight_would_bias_the_chain(monkeypatch):
    """The mutant that forgets to compute log q anew after HMC fails the test above."""
    chains = mixed(4000, 1, n_steps=1, step=0.4)
    honest = chains._propose
    kept = {}

    def stale():
        if "log_w" in kept:
            chains.log_w = kept["log_w"]
        honest()
        kept["log_w"] = chains.log_w

    monkeypatch.setattr(chains, "_propose", stale)
    chains.run(30)
    value, stderr = mean_over_chains(chains.run(60).square())
    assert abs(value - exact()) > 6.0 * stderr


def test_acceptance_of_the_flow_does_not_depend_on_hmc():
    flow = proposal()
    x, log_q = flow.sample_and_log_prob(20000, stream(1, "weights"))
    expected = acceptance_rate((-two_wells(x)[0] - log_q).numpy())
    for trajectories in (0, 2):
        chains = mixed(2000, trajectories, seed=2)
        chains.run(20)
        chains.accepted = chains.proposed = 0
        chains.run(20)
        assert chains.acceptance == pytest.approx(expected, abs=0.015)


def test_runs_of_rejections_do_not_freeze_the_state():
    narrow = DiagonalNormal(torch.ones(1, dtype=torch.float64), torch.full((1,), 0.05).double())
    frozen, moving = (
        (x[1:] == x[:-1]).double().mean().item()
        for x in (mixed(200, t, flow=narrow).run(30) for t in (0, 1))
    )
    assert frozen > 0.3 > moving


class Broken(Density):
    """Draws whose log density is NaN after the first call."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def log_prob(self, x):
        return x.new_full((len(x),), torch.nan)

    def sample_and_log_prob(self, n, generator):
        x, log_p = proposal().sample_and_log_prob(n, generator)
        self.calls += 1
        return x, log_p


def test_nan_weights_of_proposals_and_of_current_states_are_errors():
    def energy(x):
        value, gradient = two_wells(x)
        return value * torch.nan, gradient

    with pytest.raises(EnergyError, match="weight of a state is NaN"):
        mixed(potential=energy)
    chains = mixed(10, flow=Broken())
    with pytest.raises(EnergyError, match="weight of a state is NaN"):
        chains.run(1)


def test_a_negative_number_of_trajectories_is_refused():
    with pytest.raises(InputError, match="trajectories: expected 0 or more"):
        mixed(trajectories=-1)
