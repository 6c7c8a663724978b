"""Noisy lattices: normalisation, counting, and the published values of the untrained flow."""

import math

import pytest
import torch

from helmflow.bijectors.conjugated import InCell, Pinned
from helmflow.bijectors.particle_coupling import particle_couplings
from helmflow.densities.flow import Flow
from helmflow.densities.lattice import NoisyLattice, PinnedNoise, RandomTranslation, TruncatedNoise
from helmflow.energies.lennard_jones import LennardJones
from helmflow.errors import InputError
from helmflow.nets.attention import Attention
from helmflow.streams import stream
from helmflow.system import load_system

CELL = 2.0 * torch.eye(3, dtype=torch.float64)
SITES = torch.tensor([[0.0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.float64)


def test_truncated_noise_is_normalised_and_sampled():
    noise = TruncatedNoise(0.5, 0.6)
    v = noise.sample(20_000, 1, stream(0, "v"))[:, 0]
    r = v.norm(dim=1)
    assert r.max() < 0.6
    # E[1/p] over samples is the volume of the ball.
    volume = (-noise.log_prob(v[:, None])).exp()
    error = volume.std() / len(v) ** 0.5
    assert abs(volume.mean() - 4 / 3 * math.pi * 0.6**3) < 5 * error
    assert error < 0.01
    assert noise.log_prob(torch.full((1, 1, 3), 0.5, dtype=torch.float64)).item() == -math.inf


def test_untouched_by_a_distant_cut():
    """The published setting for water: P = 1 - 9e-10."""
    noise = TruncatedNoise(0.2, 1.34234)
    uncut = 1.5 * math.log(2 * math.pi * 0.04)
    assert noise.log_normalizer - uncut == pytest.approx(-9.04e-10, rel=1e-2)


def test_the_lattice_counts_every_labeling():
    density = NoisyLattice(SITES[:-1], CELL, 0.1)
    assert density.noise.radius == pytest.approx(0.5 * 2**0.5)
    x, log_p = density.sample_and_log_prob(50, stream(0, "x"))
    assert torch.allclose(density.log_prob(x), log_p, atol=1e-12)
    assert torch.allclose(density.log_prob(x[:, [2, 0, 1]]), log_p, atol=1e-12)
    assert torch.allclose(density.log_prob(x + CELL[0] - CELL[2]), log_p, atol=1e-10)
    firsts = density.cell.minimum_image(x[:, 0, None] - SITES[:-1]).norm(dim=2).argmin(1)
    assert len(set(firsts.tolist())) == 3
    doubled = x.clone()
    doubled[:, 1] = doubled[:, 0] + 0.01
    assert (density.log_prob(doubled) == -math.inf).all()


def test_pinned_noise_has_the_density_of_the_zero_mean_space():
    """Its normal form is exp(-|v|^2/2s^2) in v = relative coordinates, u = A v."""
    n, s = 4, 0.1
    density = PinnedNoise(n, TruncatedNoise(s, 50.0))
    u, log_p = density.sample_and_log_prob(20, stream(0, "u"))
    assert torch.allclose(density.log_prob(u), log_p, atol=1e-10)
    to_u = torch.eye(n, dtype=torch.float64)[:, :-1] - 1.0 / n
    frame = torch.linalg.qr(torch.ones(n, 1, dtype=torch.float64), mode="complete").Q[:, 1:]
    log_jacobian = 3 * torch.linalg.slogdet(frame.T @ to_u).logabsdet
    v = u.view(20, n, 3)[:, :-1] - u.view(20, n, 3)[:, -1:]
    normal = -0.5 * v.square().flatten(1).sum(1) / s**2 - 4.5 * math.log(2 * math.pi * s**2)
    assert torch.allclose(log_p, normal - log_jacobian, atol=1e-9)


def full_flow(scale, seed=2):
    """The same weights as a density of positions and as one of displacements."""
    inner = particle_couplings(
        n_layers=2, n_bins=4, n_frequencies=2, network=Attention(8, dtype=torch.float64)
    )
    generator = stream(seed, "weights")
    with torch.no_grad():
        for p in inner.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    relative = SITES[:-1] - SITES[-1]
    lattice = NoisyLattice(relative, CELL, 0.05)
    positions = RandomTranslation(Flow(lattice, InCell(inner, CELL)), CELL)
    noise = PinnedNoise(4, lattice.noise)
    return positions, Flow(noise, Pinned(inner, SITES, CELL))


def test_positions_and_displacements_are_the_same_density():
    """log p(x) = log p(u) - (3/2) ln n - ln V - ln (n-1)!, the convention of the free energy."""
    positions, displacements = full_flow(0.05)
    u, log_p = displacements.sample_and_log_prob(30, stream(0, "u"))
    x = SITES + u.view(30, 4, 3)
    constant = 1.5 * math.log(4) + math.log(8.0) + math.log(6)
    assert torch.allclose(positions.log_prob(x), log_p - constant, atol=1e-9)


def test_positions_are_invariant_under_translations_and_permutations_of_the_others():
    positions, _ = full_flow(0.05)
    x, log_p = positions.sample_and_log_prob(30, stream(0, "x"))
    assert ((x >= 0) & (x < 2)).all()
    assert torch.allclose(positions.log_prob(x), log_p, atol=1e-9)
    assert torch.allclose(positions.log_prob(x[:, [1, 2, 0, 3]]), log_p, atol=1e-9)
    shift = torch.tensor([0.3, -1.2, 0.7], dtype=torch.float64)
    assert torch.allclose(positions.log_prob(positions.cell.wrap(x + shift)), log_p, atol=1e-9)


STEP_ZERO = {
    # system: noise, <ln q>, <U>/N, loss = <beta U + ln q>, its spread over samples
    "ice/mw_cubic_8": (0.2, -10.074, -10.276, -216.9, 15),
    "ice/mw_cubic_64": (0.2, -171.91, -10.049, -1790.1, 44),
    "ice/mw_hexagonal_64": (0.2, -172.22, -10.028, -1786.9, 48),
    "lennard_jones/fcc_32": (0.01, 215.15, -4.643, 140.9, 6.6),
    "lennard_jones/fcc_256": (0.01, 1270.5, -6.161, 481.9, 19),
}


@pytest.mark.parametrize("name", STEP_ZERO)
def test_published_values_of_the_untrained_flow(name):
    """<ln q> = -(N-1)(3/2)(1 + ln 2 pi s^2) - ln (N-1)! - ln V, energies and loss."""
    scale, log_q, energy, loss, spread = STEP_ZERO[name]
    system = load_system(name)
    n, sites, cell = system.n_particles, system.reference_positions, system.cell
    noise = NoisyLattice(sites[:-1] - sites[-1], cell, scale).noise
    inner = particle_couplings(n_layers=1, n_bins=16, n_frequencies=2, network=Attention(4))
    flow = Flow(PinnedNoise(n, noise), Pinned(inner, sites, cell))
    count = min(2000, 100_000 // n)
    u, log_p = flow.sample_and_log_prob(count, stream(0, "u"))
    volume = abs(torch.linalg.det(cell).item())
    log_p = log_p - 1.5 * math.log(n) - math.log(volume) - math.lgamma(n)
    energy_of = system.energy
    if n == 32:  # published with nearest images although the cutoff is longer than half the box
        energy_of = LennardJones(sites, cell, epsilon=1, sigma=1, cutoff=2.7, images="nearest")
    value, _ = energy_of.displaced(u.view(count, n, 3))
    work = system.beta * value + log_p
    entropy = 1.5 * (n - 1) * (1 + math.log(2 * math.pi * scale**2))
    expected = -entropy - math.lgamma(n) - math.log(volume)
    # The published means are of samples, a few hundred at least.
    few = 250**0.5
    assert expected == pytest.approx(log_q, abs=5 * log_p.std().item() / few)
    assert abs(log_p.mean().item() - expected) < 5 * log_p.std().item() / count**0.5
    assert value.mean().item() / n == pytest.approx(energy, abs=5 * value.std().item() / n / few)
    assert work.mean().item() == pytest.approx(loss, abs=5 * work.std().item() / few)
    assert work.std().item() == pytest.approx(spread, rel=0.15)


def test_mistakes():
    with pytest.raises(InputError, match="scale"):
        TruncatedNoise(0.0, 1.0)
    with pytest.raises(InputError, match="radius"):
        TruncatedNoise(1.0, -1.0)
    with pytest.raises(InputError, match="at least 1 sample"):
        NoisyLattice(SITES, CELL, 0.1).sample_and_log_prob(0, stream(0, "x"))
