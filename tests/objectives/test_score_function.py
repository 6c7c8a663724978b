"""Energies without gradients: unbiased, quiet at the optimum, bounded, never the raw trick."""

import math

import pytest
import torch

from helmflow.bijectors.circle_maps import Rotation
from helmflow.bijectors.elementwise import Composed
from helmflow.bijectors.splines import CircularSpline
from helmflow.bijectors.torus_flows import TorusAutoregressive
from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.uniform import Uniform
from helmflow.energies.torus import TorusMixture
from helmflow.errors import EnergyError, InputError
from helmflow.generalised_work import work
from helmflow.manifolds.torus import Torus
from helmflow.nets.mlp import Conditioner
from helmflow.objectives.divergences import log_variance, reverse_kl
from helmflow.objectives.path_gradient import path_gradient_reverse_kl
from helmflow.objectives.score_function import leave_one_out, lin_log, trust_region_power
from helmflow.streams import stream
from helmflow.training.black_box import BlackBoxPlan, fit_without_gradient

ENERGY = TorusMixture([[0.21, 2.85], [1.89, 6.18], [3.77, 1.56]], 2.0)


def make_flow(seed=0, strength=0.3):
    circle = Composed([CircularSpline(6), Rotation()])
    net = TorusAutoregressive(2, circle, Conditioner([8], stream(seed, "net")))
    with torch.no_grad():
        for p in net.parameters():
            p += strength * torch.randn(p.shape, generator=stream(seed, "shake"), dtype=p.dtype)
    return Flow(Uniform(Torus(2)), net)


def gradient(flow, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(flow.parameters()))])


def test_the_mean_gradient_is_that_of_the_divergence():
    """Unbiased: many small batches against one large reparameterised one."""
    flow, n = make_flow(), 200
    rows = torch.stack(
        [gradient(flow, leave_one_out(flow, ENERGY, 32, stream(k, "b"))) for k in range(n)]
    )
    exact = gradient(flow, reverse_kl(flow, ENERGY, 60_000, stream(0, "exact")))
    z = (rows.mean(0) - exact) / (rows.std(0) / math.sqrt(n))
    assert exact.norm() > 0.3
    assert z.abs().max() < 5.0


def test_equal_to_the_log_variance_gradient():
    flow = make_flow()
    loss = leave_one_out(flow, ENERGY, 64, stream(1, "x"))
    with torch.no_grad():
        x, _ = flow.sample_and_log_prob(64, stream(1, "x"))
    other = gradient(flow, 0.5 * log_variance(flow, ENERGY, x))
    assert (gradient(flow, loss) - other).abs().max() < 1e-12


def test_a_constant_and_the_optimum_leave_no_noise():
    """Trap: the raw trick's variance is c^2 tr(Fisher)/n for a constant c added to the energy."""
    flow = make_flow()
    first, second = (
        gradient(flow, leave_one_out(flow, lambda x, c=c: ENERGY(x) + c, 32, stream(2, "x")))
        for c in (0.0, 1e6)
    )
    assert (first - second).abs().max() < 1e-8
    perfect = lambda x: -flow.log_prob(x).detach() + 3.0  # noqa: E731
    assert gradient(flow, leave_one_out(flow, perfect, 32, stream(2, "x"))).abs().max() < 1e-8


def test_the_value_is_the_mean_work():
    flow = make_flow()
    with torch.no_grad():
        x, log_q = flow.sample_and_log_prob(50, stream(3, "x"))
    loss = leave_one_out(flow, ENERGY, 50, stream(3, "x"))
    assert abs(loss - (ENERGY(x) + log_q).mean()) < 1e-12


def test_one_wild_sample_cannot_take_over():
    flow = make_flow()

    def spiked(x):
        return ENERGY(x) + torch.where(x[:, 0] < 0.3, 1e12, 0.0)

    quiet = gradient(
        flow, leave_one_out(flow, lin_log(spiked, 20.0), 64, stream(4, "x"), clip=10.0)
    )
    wild = gradient(flow, leave_one_out(flow, spiked, 64, stream(4, "x")))
    assert quiet.norm() < 20.0
    assert wild.norm() > 1e9
    walls = lambda x: ENERGY(x) + torch.where(x[:, 0] < 0.3, math.inf, 0.0)  # noqa: E731
    assert torch.isfinite(gradient(flow, leave_one_out(flow, walls, 64, stream(4, "x")))).all()


def test_lin_log_is_continuous_and_exact_below():
    values = torch.tensor([-3.0, 19.9, 20.0, 20.0 + 1e-9, 1e30, math.inf], dtype=torch.float64)
    found = lin_log(lambda x: x, 20.0)(values)
    assert torch.equal(found[:3], values[:3])
    assert abs(found[3] - values[3]) < 1e-15
    assert abs(found[4] - 20.0 - math.log(1e30)) < 1e-9


def test_trust_region():
    log_w = 5.0 * torch.randn(500, generator=stream(5, "w"), dtype=torch.float64)
    h = trust_region_power(log_w, 0.3)
    v = torch.softmax(h * log_w, 0)
    assert abs(float((v * (500 * v).log()).sum()) - 0.3) < 1e-9
    assert trust_region_power(0.01 * log_w, 0.3) == 1.0


class Scaled(Density):
    """A uniform density times exp(theta), whose score by theta is one everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def log_prob(self, x):
        return self.theta.expand(len(x))

    def sample_and_log_prob(self, n, generator):
        x = torch.rand(n, 2, generator=generator, dtype=torch.float64)
        return x, self.log_prob(x)


def test_a_clipped_signal_has_no_mean():
    """What the bound takes from one side only must not come back as a baseline."""
    flow = Scaled()
    skewed = lambda x: (4.0 * x[:, 0]).exp()  # noqa: E731
    loss = leave_one_out(flow, skewed, 64, stream(8, "x"), clip=5.0)
    assert gradient(flow, loss).abs().max() < 1e-12


SHAPES = {
    "column": lambda x: ENERGY(x)[:, None],
    "one number": lambda x: ENERGY(x).sum(),
    "numpy": lambda x: ENERGY(x.detach()).numpy(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_energies_of_another_shape_do_not_spread(shape):
    flow, u, g = make_flow(), SHAPES[shape], stream(0, "x")
    x = Torus(2).uniform(8, g)
    for loss in (
        lambda: leave_one_out(flow, u, 8, g),
        lambda: leave_one_out(flow, lin_log(u, 1.0), 8, g),
        lambda: reverse_kl(flow, u, 8, g),
        lambda: path_gradient_reverse_kl(flow, u, 8, g),
        lambda: log_variance(flow, u, x),
        lambda: fit_without_gradient(flow, u, BlackBoxPlan(steps=3, batch=8), g),
        lambda: work(x, u, u),
    ):
        with pytest.raises(InputError, match="energy"):
            loss()


def test_the_recommended_recipe_learns_without_gradients():
    flow = make_flow(strength=0.0)
    calls = []

    def black_box(x):
        assert not torch.is_grad_enabled()
        assert not x.requires_grad
        calls.append(len(x))
        return ENERGY(x)

    plan = BlackBoxPlan(steps=150, batch=128, learning_rate=2e-2)
    fit_without_gradient(flow, black_box, plan, stream(7, "fit"))
    assert sum(calls) == 151 * 128
    nodes, weights = Torus(2).quadrature(60)
    with torch.no_grad():
        log_q = flow.log_prob(nodes)
    log_p = -ENERGY(nodes)
    log_p = log_p - torch.logsumexp(log_p + weights.log(), 0)
    q = weights * log_q.exp()
    assert abs(q.sum() - 1.0) < 1e-2
    assert float(q @ (log_q - log_p)) < 0.05


def test_mistakes():
    flow = make_flow()
    with pytest.raises(InputError, match="n:"):
        leave_one_out(flow, ENERGY, 1, stream(0, "x"))
    with pytest.raises(EnergyError, match="NaN"):
        leave_one_out(flow, lambda x: x[:, 0] * math.nan, 4, stream(0, "x"))
    with pytest.raises(EnergyError, match="infinite"):
        leave_one_out(flow, lambda x: x[:, 0] + math.inf, 4, stream(0, "x"))
    x = Torus(2).uniform(4, stream(0, "x"))
    for wrong in (math.nan, math.inf):
        with pytest.raises(EnergyError):
            log_variance(flow, lambda x, c=wrong: x[:, 0] + c, x)
        plan = BlackBoxPlan(steps=3, batch=8)
        with pytest.raises(EnergyError):
            fit_without_gradient(flow, lambda x, c=wrong: x[:, 0] + c, plan, stream(0, "x"))
    with pytest.raises(InputError, match="radius"):
        trust_region_power(torch.zeros(3), 0.0)
    with pytest.raises(InputError, match="powers"):
        BlackBoxPlan(powers=(0.5,))
    with pytest.raises(InputError, match="steps"):
        BlackBoxPlan(steps=2)
