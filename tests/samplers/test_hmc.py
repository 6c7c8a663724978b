"""Hamiltonian Monte Carlo keeps equilibrium: many chains start there, every moment must stay.

Moments are always recomputed from where the chains stand, never taken from the sampler's state.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch

from assertions import assert_consistent
from helmflow.densities.gaussian import Gaussian
from helmflow.samplers import hmc
from helmflow.samplers.hmc import InterpolatedHMC

CHAINS = 40_000
STEPS = 5
PRECISION = torch.tensor([[1.5, 0.6], [0.6, 0.8]], dtype=torch.float64)


def target(u):
    """An asymmetric potential with a cubic, quartic and mixed term."""
    x, y = u[:, 0], u[:, 1]
    value = 0.25 * x**4 - 0.4 * x**3 + 0.5 * x**2 + 0.2 * y**4 + 0.3 * x * y + 0.3 * y
    gradient = torch.stack([x**3 - 1.2 * x**2 + x + 0.3 * y, 0.8 * y**3 + 0.3 * x + 0.3], dim=1)
    return value, gradient


def moments(u):
    x, y = u[:, 0], u[:, 1]
    return torch.stack([x, y, x * x, x * y, y * y, x**3, y**4, target(u)[0]])


def log_density(u, lam):
    return 0.5 * (lam - 1.0) * (u @ PRECISION * u).sum(1) - lam * target(u)[0]


@cache
def quadrature(lam):
    """Exact moments on a grid; the trapezoidal rule converges exponentially here."""
    side = torch.linspace(-8, 8, 321, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    weight = torch.softmax(log_density(grid, lam), dim=0)
    return (moments(grid) @ weight).tolist()


def equilibrium(lam, n, generator):
    """Exact draws by rejection from a broad normal density."""
    width, kept = 1.6, []
    side = torch.linspace(-8, 8, 161, dtype=torch.float64)

    def log_ratio(u):
        return log_density(u, lam) + 0.5 * u.square().sum(1) / width**2

    bound = log_ratio(torch.cartesian_prod(side, side)).max() + 0.02
    while sum(map(len, kept)) < n:
        u = width * torch.randn(3 * n, 2, generator=generator, dtype=torch.float64)
        log_uniform = torch.rand(len(u), generator=generator, dtype=torch.float64).log()
        kept.append(u[log_uniform < log_ratio(u) - bound])
    return torch.cat(kept)[:n]


def assert_equilibrium_is_kept(sampler_class, lam, n_kicks, generator):
    base = Gaussian(PRECISION)
    sampler = sampler_class(base, target, torch.full((CHAINS,), lam, dtype=torch.float64))
    state = sampler.init(base.whiten(equilibrium(lam, CHAINS, generator)))
    for _ in range(STEPS):
        state, _ = sampler.step(state, n_kicks, generator)
    found = moments(base.colour(state.z))
    for values, truth in zip(found, quadrature(lam), strict=True):
        stderr = values.std().item() / math.sqrt(CHAINS)
        resolve = 0.1 * (1 + abs(truth))
        assert_consistent(values.mean().item(), stderr, truth, resolve=resolve)


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n_kicks", [1, 3])
def test_equilibrium_is_kept(lam, n_kicks, generator):
    assert_equilibrium_is_kept(InterpolatedHMC, lam, n_kicks, generator)


class NoKineticEnergy(InterpolatedHMC):
    def _hamiltonian(self, state, velocity):
        return super()._hamiltonian(state, torch.zeros_like(velocity))


class WrongSignOfWork(InterpolatedHMC):
    def _hamiltonian(self, state, velocity):
        return super()._hamiltonian(state._replace(work=-state.work), velocity)


class NoLastHalfKick(InterpolatedHMC):
    def step(self, state, n_kicks, generator):
        self._left = n_kicks
        moved, accepted = super().step(state, n_kicks, generator)
        self._left = 0
        return self.init(moved.z), accepted

    def init(self, z):
        state = super().init(z)
        self._left = getattr(self, "_left", 0) - 1
        return state._replace(drive=torch.zeros_like(z)) if self._left == 0 else state


def always(accepted, new, old):
    return new


def inverted(accepted, new, old):
    return SELECT(~accepted, new, old)


def stale_work(accepted, new, old):
    return SELECT(accepted, new, old)._replace(work=old.work)


def stale_drive(accepted, new, old):
    return SELECT(accepted, new, old)._replace(drive=old.drive)


SELECT = hmc._select


@pytest.mark.parametrize("mutant", [NoKineticEnergy, WrongSignOfWork, NoLastHalfKick])
def test_wrong_dynamics_are_noticed(mutant, generator):
    with pytest.raises(AssertionError, match="z ="):
        assert_equilibrium_is_kept(mutant, 1.0, 2, generator)


@pytest.mark.parametrize("mutant", [always, inverted, stale_work])
def test_wrong_acceptance_is_noticed(mutant, monkeypatch, generator):
    monkeypatch.setattr(hmc, "_select", mutant)
    with pytest.raises(AssertionError, match="z ="):
        assert_equilibrium_is_kept(InterpolatedHMC, 1.0, 2, generator)


def crystal_like(generator, lam):
    """A mixed batch on a density without uniform translations."""
    chain = 2 * torch.eye(4) - torch.roll(torch.eye(4), 1, 0) - torch.roll(torch.eye(4), -1, 0)
    base = Gaussian(chain.double(), n_translations=1)

    def quartic(u):
        w = u - torch.roll(u, 1, 1)
        energy = (0.5 * w**2 + 0.3 * w**4).sum(1)
        force = w + 1.2 * w**3
        return energy, force - torch.roll(force, -1, 1)

    sampler = InterpolatedHMC(base, quartic, lam)
    return base, sampler, sampler.init(base.noise(len(lam), generator))


def assert_state_belongs_together(generator):
    base, sampler, state = crystal_like(generator, torch.linspace(0, 1, 64, dtype=torch.float64))
    for _ in range(10):
        state, _ = sampler.step(state, 3, generator)
    for carried, recomputed in zip(state, sampler.init(state.z), strict=True):
        torch.testing.assert_close(carried, recomputed)
    assert state.u.mean(1).abs().max() < 1e-13
    torch.testing.assert_close(state.work, state.potential + base.log_prob(state.u))


def test_what_the_state_carries_belongs_to_where_the_chain_stands(generator):
    assert_state_belongs_together(generator)


@pytest.mark.parametrize("mutant", [stale_work, stale_drive])
def test_stale_parts_of_the_state_are_noticed(mutant, monkeypatch, generator):
    monkeypatch.setattr(hmc, "_select", mutant)
    with pytest.raises(AssertionError, match="not close"):
        assert_state_belongs_together(generator)


def test_the_drive_is_the_gradient_of_the_work(generator):
    _, sampler, state = crystal_like(generator, torch.ones(3, dtype=torch.float64))
    step = 1e-5
    for k in range(3):
        shift = torch.zeros(4, dtype=torch.float64)
        shift[k] = step
        up, down = sampler.init(state.z + shift).work, sampler.init(state.z - shift).work
        slope = (up - down) / (2 * step)
        torch.testing.assert_close(slope, state.drive[:, k], rtol=1e-6, atol=1e-6)
    assert state.drive[:, 3].abs().max() < 1e-12  # the idle component feels nothing


def test_at_the_base_every_trajectory_is_accepted_and_forgets(generator):
    _, sampler, state = crystal_like(generator, torch.zeros(20_000, dtype=torch.float64))
    before = state.u
    for _ in range(3):
        state, accepted = sampler.step(state, 2, generator)
        assert accepted.all()
    correlation = (before * state.u).mean() / before.square().mean()
    assert abs(correlation.item()) < 0.05


def test_the_integrator_is_reversible_and_of_second_order(generator):
    """Energy error of one trajectory falls as the square of the kick."""
    base = Gaussian(PRECISION)
    errors = []
    for n_kicks in (8, 16):
        sampler = Recorder(base, target, torch.ones(2000, dtype=torch.float64))
        fixed = torch.Generator().manual_seed(5)
        state = sampler.init(base.noise(2000, fixed))
        sampler.step(state, n_kicks, fixed)
        before, after = sampler.seen
        errors.append((after - before).abs().median().item())
    assert 3.3 < errors[0] / errors[1] < 4.7


class Recorder(InterpolatedHMC):
    def _hamiltonian(self, state, velocity):
        value = super()._hamiltonian(state, velocity)
        self.seen = [*getattr(self, "seen", []), value]
        return value


def test_same_generator_same_chain():
    ends = []
    for _ in range(2):
        generator = torch.Generator().manual_seed(9)
        _, sampler, state = crystal_like(generator, torch.ones(16, dtype=torch.float64))
        for _ in range(4):
            state, _ = sampler.step(state, 2, generator)
        ends.append(state.z.numpy())
    np.testing.assert_array_equal(*ends)


def test_no_chains_is_no_mistake(generator):
    _, sampler, state = crystal_like(generator, torch.ones(0, dtype=torch.float64))
    state, accepted = sampler.step(state, 2, generator)
    assert len(state.z) == len(accepted) == 0


def test_a_chain_never_moves_to_an_infinite_or_undefined_potential(generator):
    """A row that overflows is rejected, the others go on."""
    base = Gaussian(PRECISION)

    def walled(u):
        value, gradient = target(u)
        value = torch.where(u[:, 0] > 0.5, torch.inf, value)
        return torch.where(u[:, 0] < -0.8, torch.nan, value), gradient

    sampler = InterpolatedHMC(base, walled, torch.ones(500, dtype=torch.float64))
    state = sampler.init(torch.zeros(500, 2, dtype=torch.float64))
    for _ in range(10):
        state, accepted = sampler.step(state, 2, generator)
    assert accepted.any()
    assert torch.isfinite(state.potential).all()
    assert state.u[:, 0].abs().max() <= 0.8
