"""Replay within a trust region: weights, the buffer, covering both modes, mistakes."""

import math

import pytest
import torch

from helmflow.bijectors.circle_maps import Rotation
from helmflow.bijectors.elementwise import Composed
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import TorusAutoregressive
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.energies.torus import TorusMixture
from helmflow.errors import EnergyError, InputError
from helmflow.estimators.reweighting import kish_ess
from helmflow.manifolds.torus import Torus
from helmflow.nets.mlp import Conditioner
from helmflow.streams import stream
from helmflow.training.replay import ReplayBuffer, ReplayPlan, fit_with_replay

TWO_MODES = TorusMixture([[1.0, 1.0], [4.0, 5.0]], 8.0, [3.0, 1.0])


def new_flow():
    circle = Composed([CircularSpline(8), Rotation()])
    layers = TorusAutoregressive(2, circle, Conditioner([12], stream(0, "net")))
    return Flow(Uniform(Torus(2)), layers)


def test_learns_both_modes_from_values_alone():
    flow = new_flow()
    calls = []

    def black_box(x):
        assert not torch.is_grad_enabled()
        calls.append(len(x))
        wall = torch.where(x[:, 0] < 0.1, math.inf, 0.0)
        return TWO_MODES(x) + wall

    plan = ReplayPlan(rounds=25, fresh=512, updates=8, batch=256, learning_rate=2e-2)
    fit_with_replay(flow, black_box, plan, stream(1, "fit"))
    assert sum(calls) == 25 * 512
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(4000, stream(2, "test"))
    log_w = -(TWO_MODES(x) + log_q)
    assert kish_ess(log_w) > 0.6 * 4000
    w = log_w.softmax(0)
    share = float(w[(x[:, 0] - 1.0).abs() < 1.5].sum())
    assert abs(share - 0.75) < 0.06


def test_the_region_of_trust_widens_as_the_flow_learns():
    buffer = ReplayBuffer(2, 0.5)
    x = torch.zeros(400, 1, dtype=torch.float64)
    wild = 9.0 * torch.randn(400, generator=stream(3, "w"), dtype=torch.float64)
    buffer.add(x, wild)
    assert buffer.power < 0.3
    buffer.add(x + 1.0, 0.01 * wild)
    assert buffer.power == 1.0
    buffer.add(x + 2.0, 0.01 * wild)
    assert len(buffer.rounds) == 2
    drawn = buffer.draw(1000, stream(4, "d"))
    assert set(drawn[:, 0].tolist()) == {1.0, 2.0}
    assert abs((drawn == 2.0).double().mean() - 0.5) < 0.08  # every round has its share


def test_infinite_energies_are_never_replayed():
    buffer = ReplayBuffer(1, 5.0)
    x = torch.arange(6, dtype=torch.float64)[:, None]
    buffer.add(x, torch.tensor([0.0, math.inf, 0.1, math.inf, 0.0, 0.2]).double())
    assert not {1.0, 3.0} & set(buffer.draw(500, stream(5, "d"))[:, 0].tolist())


def test_same_seed_same_flow():
    found = []
    for _ in range(2):
        flow = new_flow()
        plan = ReplayPlan(rounds=3, fresh=64, updates=2, batch=32)
        fit_with_replay(flow, TWO_MODES, plan, stream(6, "fit"))
        found.append(torch.cat([p.detach().flatten() for p in flow.parameters()]))
    assert torch.equal(*found)


def test_mistakes():
    for name, value in (("rounds", 0), ("fresh", 1), ("radius", 0.0), ("memory", 0)):
        with pytest.raises(InputError, match=name):
            ReplayPlan(**{name: value})
    plan = ReplayPlan(rounds=1, fresh=8, updates=1, batch=4)
    with pytest.raises(EnergyError, match="NaN"):
        fit_with_replay(new_flow(), lambda x: x[:, 0] * math.nan, plan, stream(0, "f"))
