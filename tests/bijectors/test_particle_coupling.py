"""The published architecture: identity at first, exact log-determinants, the right symmetries."""

import pytest
import torch
from torch.autograd.functional import jacobian

from helmflow.bijectors.base import Chain
from helmflow.bijectors.particle_coupling import (
    CircularShift,
    ParticleCoupling,
    particle_couplings,
)
from helmflow.bijectors.periodic import InCell, Pinned
from helmflow.bijectors.splines import CircularSpline
from helmflow.errors import InputError
from helmflow.nets.attention import Transformer
from helmflow.streams import stream

CELL = torch.diag(torch.tensor([1.0, 1.3, 0.9], dtype=torch.float64))
SITES = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.9, 0.1], [0.7, 0.3, 0.8], [0.0, 0.0, 0.0]]).double()


def flow(scale=0.1, n_layers=3, dtype=torch.float64):
    """A small flow with random weights, far from the identity."""
    chain = particle_couplings(n_layers=n_layers, n_bins=5, n_frequencies=2, width=8, dtype=dtype)
    generator = stream(2, "weights")
    with torch.no_grad():
        for p in chain.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return chain


def positions(n=5, m=4):
    return torch.rand(n, m, 3, generator=stream(0, "x"), dtype=torch.float64)


def displacements(n=5, scale=0.05):
    u = scale * torch.randn(n, len(SITES), 3, generator=stream(1, "u"), dtype=torch.float64)
    return (u - u.mean(1, keepdim=True)).flatten(1)


def on_circle(d):
    return d - d.round()


MAPS = {
    "one coordinate": lambda: Chain([flow(n_layers=1).bijectors[0]]),
    "two coordinates": lambda: Chain([flow(n_layers=1).bijectors[1]]),
    "shift": lambda: Chain([flow(n_layers=1).bijectors[2]]),
    "flow": flow,
}


@pytest.mark.parametrize("name", MAPS)
def test_inverse(name):
    f, x = MAPS[name](), positions(50)
    y, log_det = f.forward(x)
    back, log_det_back = f.inverse(y)
    assert ((y >= 0) & (y < 1)).all()
    assert on_circle(y - x).abs().max() > 0.01
    assert on_circle(back - x).abs().max() < 1e-10
    assert (log_det + log_det_back).abs().max() < 1e-9


@pytest.mark.parametrize("name", MAPS)
def test_log_det_is_that_of_the_jacobian(name):
    f, x = MAPS[name](), positions(3)
    _, log_det = f.forward(x)
    for b in range(len(x)):
        matrix = jacobian(lambda z: f.forward(z[None])[0][0], x[b]).reshape(12, 12)
        assert torch.allclose(torch.linalg.slogdet(matrix).logabsdet, log_det[b], atol=1e-9)


def test_permutations_commute_with_the_flow():
    f, x = flow(), positions()
    order = torch.randperm(4, generator=stream(0, "order"))
    y, log_det = f.forward(x)
    permuted, same = f.forward(x[:, order])
    assert torch.allclose(y[:, order], permuted, atol=1e-12)
    assert torch.allclose(log_det, same, atol=1e-12)


def test_continuous_across_the_seam():
    f = flow()
    x = positions(20)
    x[:, 1] = 1e-12
    other = x.clone()
    other[:, 1] = 1.0 - 1e-12
    (y, log_det), (z, same) = f.forward(x), f.forward(other)
    assert on_circle(y - z).abs().max() < 1e-9
    assert (log_det - same).abs().max() < 1e-8


def test_identity_at_first_on_any_positions():
    f = particle_couplings(n_layers=3, n_bins=16, n_frequencies=8, width=8)
    y, log_det = f.forward(positions(200))
    assert on_circle(y - positions(200)).abs().max() < 1e-14
    assert log_det.abs().max() < 1e-12


def test_every_parameter_learns():
    """From the identity the outer layers learn at once, the others as soon as these have."""
    f = flow(scale=0.1)
    y, log_det = f.forward(positions())
    ((y - 0.3).square().sum() + log_det.sum()).backward()
    names = [name for name, p in f.named_parameters() if not p.grad.abs().max() > 0]
    assert not names


def test_published_numbers_of_parameters():
    """Less what a seam with one slope instead of two equal ones leaves out: 257 per coordinate."""

    def count(**settings):
        return sum(p.numel() for p in particle_couplings(**settings).parameters())

    assert count(n_frequencies=8) == 76_932_624 - 24 * 3 * 257
    tutorial = count(n_layers=4, n_frequencies=2, width=32)
    assert tutorial == 222_424 - 4 * 3 * 33


def test_single_precision_networks_keep_maps_in_double():
    f = flow(dtype=torch.float32)
    x = positions(20)
    y, log_det = f.forward(x)
    assert y.dtype == log_det.dtype == torch.float64
    back, _ = f.inverse(y)
    assert on_circle(back - x).abs().max() < 1e-5


def test_in_cell_maps_positions_of_any_cell():
    cell = torch.tensor([[1.0, 0, 0], [0.3, 1.2, 0], [-0.2, 0.1, 0.9]], dtype=torch.float64)
    f = InCell(flow(), cell)
    x = positions() @ cell
    y, log_det = f.forward(x)
    matrix = jacobian(lambda z: f.forward(z[None])[0][0], x[0]).reshape(12, 12)
    assert torch.allclose(torch.linalg.slogdet(matrix).logabsdet, log_det[0], atol=1e-9)
    assert torch.allclose(f.forward(x + cell[1] - cell[0])[0], y, atol=1e-9)
    back, log_det_back = f.inverse(y)
    assert torch.allclose(back, x, atol=1e-9)
    assert torch.allclose(log_det, -log_det_back, atol=1e-9)


def small_pinned():
    """A flow of displacements that stay well within half the cell."""
    return Pinned(flow(scale=0.05), SITES, CELL)


def test_pinned_maps_displacements_of_zero_mean():
    f, u = small_pinned(), displacements()
    y, log_det = f.forward(u)
    assert y.view(5, -1, 3).mean(1).abs().max() < 1e-15
    assert (y - u).abs().max() > 1e-3
    back, log_det_back = f.inverse(y)
    assert (back - u).abs().max() < 1e-10
    assert (log_det + log_det_back).abs().max() < 1e-10


def test_pinned_log_det_is_that_of_the_space_of_zero_mean():
    """Against the Jacobian in orthonormal coordinates of that space."""
    f, u = small_pinned(), displacements()
    n = len(SITES)
    uniform = torch.eye(3, dtype=torch.float64).repeat(n, 1)
    frame = torch.linalg.qr(uniform, mode="complete").Q[:, 3:]
    for row in u[:2]:
        q = frame.T @ row
        matrix = jacobian(lambda q: frame.T @ f.forward((frame @ q)[None])[0][0], q)
        expected = torch.linalg.slogdet(matrix).logabsdet
        assert torch.allclose(f.forward(row[None])[1][0], expected, atol=1e-9)


def test_pinned_starts_as_the_identity():
    f = Pinned(particle_couplings(n_layers=2, width=8), SITES, CELL)
    u = displacements(100)
    y, log_det = f.forward(u)
    assert (y - u).abs().max() < 1e-13
    assert log_det.abs().max() < 1e-12


def test_a_split_needs_two_sides():
    network = Transformer(4, 4, width=4)
    for moved in ([], [0, 1, 2], [3]):
        with pytest.raises(InputError, match="some but not all"):
            ParticleCoupling(moved, 3, 1, CircularSpline(2, 1.0), network)


def test_shifts_wrap():
    shift = CircularShift(2)
    with torch.no_grad():
        shift.shift.copy_(torch.tensor([0.7, -0.4]))
    y, _ = shift.forward(torch.tensor([[[0.5, 0.1]]], dtype=torch.float64))
    assert torch.allclose(y, torch.tensor([[[0.2, 0.7]]], dtype=torch.float64))
