"""Coupling flows against exact free energies: right as they are, wrong as soon as they are not."""

import math

import pytest
import torch

from helmflow.bijectors.base import Bijector, Identity
from helmflow.bijectors.conjugated import Pinned
from helmflow.bijectors.local_coupling import local_couplings
from helmflow.bijectors.particle_coupling import particle_couplings
from helmflow.densities.flow import Flow
from helmflow.densities.gaussian import Gaussian
from helmflow.estimators.bar import bar
from helmflow.estimators.diagnostics import pareto_k
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import kish_ess
from helmflow.generalised_work import density_work
from helmflow.manifolds.site_graph import site_graph
from helmflow.manifolds.symmetry import crystal_symmetry
from helmflow.nets.attention import Attention
from helmflow.objectives import path_gradient_reverse_kl
from helmflow.streams import stream
from helmflow.system import load_system
from helmflow.training.plan import Cosine, TrainingPlan
from helmflow.training.stochastic import train

SYSTEM = load_system("ice/mw_cubic_8")
SITES, CELL = SYSTEM.reference_positions, SYSTEM.cell
SPREAD = 0.05  # of the exactly solvable crystal, in its unit of length


def springs(seed):
    """A positive precision matrix (24, 24) blind to translations."""
    noise = torch.randn(24, 24, generator=stream(seed, "springs"), dtype=torch.float64)
    matrix = torch.eye(24, dtype=torch.float64) + 0.05 * (noise + noise.T) / 24**0.5
    uniform = torch.eye(3, dtype=torch.float64).repeat(8, 1) / 8**0.5
    blind = torch.eye(24, dtype=torch.float64) - uniform @ uniform.T
    return blind @ matrix @ blind / SPREAD**2


BASE = Gaussian(springs(2), n_translations=3)
TARGET = Gaussian(1.4 * springs(1), n_translations=3)
EXACT = -TARGET.log_normalizer


def local():
    symmetry = crystal_symmetry(SITES.numpy(), CELL.numpy(), SYSTEM.species)
    graph = site_graph(SITES.numpy(), CELL.numpy(), symmetry, reach=1.1)
    return local_couplings(graph, scale=SPREAD, n_sweeps=1, hidden=(8,), dtype=torch.float64)


def published():
    network = Attention(16, dtype=torch.float64)
    inner = particle_couplings(n_layers=2, n_bins=16, n_frequencies=4, network=network)
    return Pinned(inner, SITES, CELL)


def potential(u):
    """u K u / 2, with the exact free energy -ln int exp(-u K u / 2)."""
    return -TARGET.log_prob(u) - TARGET.log_normalizer


@pytest.fixture(scope="module", params=[local, published])
def trained(request):
    """A flow from one Gaussian crystal to a stiffer one, by its energy alone."""
    flow = Flow(BASE, request.param())
    plan = TrainingPlan(steps=60, batch=16, learning_rate=0.02, schedule=Cosine(10))
    train(
        flow,
        lambda n, generator: path_gradient_reverse_kl(flow, potential, n, generator),
        plan,
        stream(0, "training"),
    )
    return flow


def forward_works(flow, n=2500):
    with torch.no_grad():
        u, log_q = flow.sample_and_log_prob(n, stream(0, "samples"))
    return density_work(u, log_q, potential).numpy()


def reverse_works(flow, n=2500):
    y = TARGET.sample(n, stream(0, "target"))
    with torch.no_grad():
        return -density_work(y, flow.log_prob(y), potential).numpy()


class Wrong(Bijector):
    """A map whose log-determinant is multiplied and shifted."""

    def __init__(self, bijector, factor, shift):
        super().__init__()
        self.bijector, self.factor, self.shift = bijector, factor, shift

    def forward(self, x):
        y, log_det = self.bijector.forward(x)
        return y, self.factor * log_det + self.shift

    def inverse(self, y):
        x, log_det = self.bijector.inverse(y)
        return x, self.factor * log_det - self.shift


def test_training_improves_and_free_energies_are_exact(trained):
    before = forward_works(Flow(BASE, Identity()))
    forward, reverse = forward_works(trained), reverse_works(trained)
    assert kish_ess(-forward) > 2 * kish_ess(-before)
    for estimate in (fep(forward), bar(forward, reverse)):
        assert estimate.stderr < 0.03
        assert abs(estimate.value - EXACT) < 5 * estimate.stderr


WRONG = {"shifted": (1.0, 0.2), "left out": (0.0, 0.0), "sign": (-1.0, 0.0), "tenth": (1.1, 0.0)}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_log_determinant_is_found_by_an_independent_free_energy(trained, name):
    """Its effective sample size does not tell: it stays what it was or even rises."""
    wrong = Flow(trained.base, Wrong(trained.bijector, *WRONG[name]))
    forward = forward_works(wrong)
    estimate = fep(forward)
    assert abs(estimate.value - EXACT) > 5 * estimate.stderr
    if name == "shifted":
        assert kish_ess(-forward) == pytest.approx(kish_ess(-forward_works(trained)))


def test_a_wrong_inverse_is_found_by_forward_against_reverse(trained):
    """A constant forgotten in one direction only."""

    class Forgetful(Wrong):
        def inverse(self, y):
            return self.bijector.inverse(y)

    wrong = Flow(trained.base, Forgetful(trained.bijector, 1.0, 0.3))
    up, down = fep(forward_works(wrong)), fep(reverse_works(wrong))
    assert abs(up.value + down.value) > 5 * math.hypot(up.stderr, down.stderr)


def test_a_collapsed_flow_is_found_from_the_side_of_the_target(trained):
    """Its own samples look fine; samples of the target have weights with a heavy tail."""
    narrow = Flow(Gaussian(5.0 * springs(1), n_translations=3), Identity())
    assert pareto_k(reverse_works(narrow)) > 0.7 > pareto_k(reverse_works(trained))
