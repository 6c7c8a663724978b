"""Hamiltonian flows: exact oscillator, phase space, symmetry, the evidence bound."""

import math

import pytest
import torch

from bijector_cases import hamiltonian
from helmflow.bijectors.hamiltonian import (
    GaussianEncoder,
    HamiltonianFlow,
    kinetic_energy,
    poisson_bracket,
)
from helmflow.densities.flow import Flow
from helmflow.densities.phase_space import Cotangent
from helmflow.errors import InputError
from helmflow.manifolds.product import Euclidean, parse_manifold
from helmflow.manifolds.sphere import Sphere
from helmflow.manifolds.torus import Torus
from helmflow.nets.mlp import Mlp
from helmflow.objectives.evidence import bracket_penalty, evidence_bound
from helmflow.streams import stream
from helmflow.training.plan import TrainingPlan
from helmflow.training.stochastic import train


def oscillator():
    return HamiltonianFlow(
        Euclidean(1), lambda q: 0.5 * (1.5 * q).square().sum(-1), step=0.3, n_steps=4
    )


class Fixed(torch.nn.Module):
    def __init__(self, slope, width):
        super().__init__()
        self.slope, self.width = slope, width

    def forward(self, q):
        return torch.cat((self.slope * q, torch.full_like(q, math.log(self.width))), -1)


def test_oscillator_is_a_matrix():
    f = oscillator()
    found = torch.stack([f.forward(row[None])[0][0] for row in torch.eye(2).double()], 1)
    expected = [[-0.242311806230469, 0.663820120312500], [-1.417982010123779, -0.242311806230469]]
    assert (found - torch.tensor(expected, dtype=torch.float64)).abs().max() < 1e-14
    flow = Flow(Cotangent(Euclidean(1)), f)
    point = torch.tensor([[0.7, -0.2]], dtype=torch.float64)
    assert abs(flow.log_prob(point).item() + 2.380448493996172) < 1e-14


def test_evidence_bound():
    """Equal to the marginal with the exact encoder, below it with another."""
    flow = Flow(Cotangent(Euclidean(1)), oscillator())
    q = torch.full((4000, 1), 0.7, dtype=torch.float64)
    exact = GaussianEncoder(Fixed(0.2561609159041986 / 0.7, math.sqrt(2.0025145031118146)))
    bound = evidence_bound(flow, exact, q, stream(0, "p"))
    assert (bound + 1.062352765248602).abs().max() < 1e-12
    loose = evidence_bound(flow, GaussianEncoder(Fixed(0.0, 1.0)), q, stream(1, "p"))
    assert abs(loose.mean() + 1.1756246731458293) < 5.0 * loose.std() / math.sqrt(4000)


@pytest.mark.parametrize("manifold", [Euclidean(2), Torus(2), Sphere(2), Sphere(3)], ids=repr)
def test_images_are_points_of_phase_space(manifold):
    f, x = hamiltonian(manifold), Cotangent(manifold).sample_and_log_prob(20, stream(2, "x"))[0]
    y, log_det = f.forward(x)
    assert (log_det == 0).all()
    assert torch.isfinite(Flow(Cotangent(manifold), f).log_prob(y.detach())).all()
    if isinstance(manifold, Sphere):
        q, p = y.detach().chunk(2, -1)
        manifold.require(q)
        assert (q * p).sum(1).abs().max() < 1e-14


def test_points_off_phase_space_are_refused():
    """A vector of another length, a momentum that leaves the sphere, an angle outside."""
    for manifold, rows in (
        (Sphere(2), ([0.0, 0.0, 2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0, 0.0, 0.1])),
        (Torus(2), ([0.0, 7.0, 0.0, 0.0],)),
    ):
        f = HamiltonianFlow(manifold, lambda q: q.sin().sum(-1))
        for row in rows:
            x = torch.tensor([row], dtype=torch.float64)
            for call in (Flow(Cotangent(manifold), f).log_prob, f.forward, f.inverse):
                with pytest.raises(InputError, match="x:"):
                    call(x)
    with pytest.raises(InputError, match="manifold"):
        Cotangent(parse_manifold("T1 x S2"))
    lost = torch.full((2, 4), math.nan, dtype=torch.float64)
    assert f.forward(lost)[0].isnan().all()


def test_a_rotation_invariant_potential_conserves_angular_momentum():
    """The Poisson bracket with q1 p2 - q2 p1 vanishes, and not for another potential."""
    x = torch.randn(50, 4, generator=stream(3, "x"), dtype=torch.float64)
    turn = lambda x: x[:, 0] * x[:, 3] - x[:, 1] * x[:, 2]  # noqa: E731
    invariant = lambda x: kinetic_energy(x[:, 2:]) + x[:, :2].square().sum(-1).sin()  # noqa: E731
    other = lambda x: kinetic_energy(x[:, 2:]) + x[:, 0].sin()  # noqa: E731
    assert poisson_bracket(turn, invariant, x).abs().max() < 1e-14
    assert poisson_bracket(turn, other, x).abs().max() > 0.1
    f = HamiltonianFlow(Euclidean(2), lambda q: q.square().sum(-1).sin(), n_steps=7)
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    both = torch.block_diag(quarter, quarter)
    assert (f.forward(x @ both.T)[0] - f.forward(x)[0] @ both.T).abs().max() < 1e-12


@pytest.mark.parametrize("manifold", [Torus(2), Sphere(2), Sphere(3)], ids=repr)
def test_densities_on_phase_space_integrate_to_one(manifold):
    """Also on spheres, where volume is that of the bundle of tangent spaces."""
    potential = lambda q: torch.sin(2.0 * q).sum(-1) + torch.cos(q[:, 0])  # noqa: E731
    flow = Flow(Cotangent(manifold), HamiltonianFlow(manifold, potential, step=0.15, n_steps=4))
    x, log_p = flow.base.sample_and_log_prob(20_000, stream(8, "x"))
    with torch.no_grad():
        ratio = (flow.log_prob(x) - log_p).exp()
    assert 0.05 < ratio.std() < 5.0
    assert abs(ratio.mean() - 1.0) < 5.0 * ratio.std() / math.sqrt(len(x))


def test_bracket_penalty():
    """Zero for a potential of invariants, and with a gradient that lowers it for another."""
    turn = lambda x: x[:, 0] * x[:, 3] - x[:, 1] * x[:, 2]  # noqa: E731
    x = torch.randn(200, 4, generator=stream(7, "x"), dtype=torch.float64)
    round_ = HamiltonianFlow(Euclidean(2), lambda q: q.square().sum(-1).sin())
    assert bracket_penalty(round_, turn, x) < 1e-25
    net = Scalar(Mlp((2, 8, 1), zero_last=False, activation=torch.nn.Tanh))
    free = HamiltonianFlow(Euclidean(2), net)
    before = bracket_penalty(free, turn, x).item()
    loss = lambda n, g: bracket_penalty(free, turn, x[:n])  # noqa: E731
    train(net, loss, TrainingPlan(60, 200, 1e-2), stream(0, "t"))
    assert before > 1e-3
    assert bracket_penalty(free, turn, x).item() < 0.2 * before
    total = kinetic_energy(x[:, 2:]) + net(x[:, :2])
    assert torch.allclose(free.hamiltonian(x), total)


def test_learning_by_the_evidence_bound():
    """Two wells on the line: the bound rises above that of the base and stays below the truth."""
    samples = torch.randn(512, 1, generator=stream(4, "q"), dtype=torch.float64)
    samples = 0.3 * samples + torch.where(torch.arange(512) % 2 == 0, 1.5, -1.5)[:, None]
    net = Mlp((1, 16, 1), zero_last=False, activation=torch.nn.Tanh)
    flow = Flow(
        Cotangent(Euclidean(1)),
        HamiltonianFlow(Euclidean(1), Scalar(net), step=0.3, n_steps=4),
    )
    encoder = GaussianEncoder(Mlp((1, 16, 2)))
    both = torch.nn.ModuleList([flow, encoder])

    def loss(n, generator):
        chosen = torch.randint(512, (n,), generator=generator)
        return -evidence_bound(flow, encoder, samples[chosen], generator).mean()

    before = loss(512, stream(5, "test")).item()
    train(both, loss, TrainingPlan(80, 128, 3e-2), stream(6, "fit"))
    after = loss(512, stream(5, "test")).item()
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.09) + math.log(2.0)
    assert after < before - 0.2
    assert after > entropy - 0.1


class Scalar(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, q):
        return self.net(q)[:, 0]


def test_mistakes():
    with pytest.raises(InputError, match="step"):
        HamiltonianFlow(Euclidean(1), kinetic_energy, step=0.0)
    with pytest.raises(InputError, match="kinetic"):
        HamiltonianFlow(Sphere(2), kinetic_energy, kinetic_energy)
    with pytest.raises(InputError, match="shape"):
        oscillator().forward(torch.zeros(3, 3))
