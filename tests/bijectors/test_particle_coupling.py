"""The published architecture: identity at first, the right size and symmetries, periodicity."""

import pytest
import torch

from bijector_cases import BOX, CASES, CELL, SITES, published, uniform
from helmflow.bijectors.conjugated import InCell, Pinned
from helmflow.bijectors.particle_coupling import (
    CircularShift,
    ParticleCoupling,
    particle_couplings,
)
from helmflow.bijectors.splines import CircularSpline
from helmflow.errors import InputError
from helmflow.nets.attention import Attention, Transformer
from helmflow.streams import stream

POSITIONS = uniform(4, 3)


def on_circle(d):
    return d - d.round()


def test_permutations_commute_with_the_flow():
    f, x = published(), POSITIONS(5)
    order = torch.randperm(4, generator=stream(0, "order"))
    y, log_det = f.forward(x)
    permuted, same = f.forward(x[:, order])
    assert torch.allclose(y[:, order], permuted, atol=1e-12)
    assert torch.allclose(log_det, same, atol=1e-12)


def test_continuous_across_the_seam():
    f = published()
    x = POSITIONS(20)
    x[:, 1] = 1e-12
    other = x.clone()
    other[:, 1] = 1.0 - 1e-12
    (y, log_det), (z, same) = f.forward(x), f.forward(other)
    assert on_circle(y - z).abs().max() < 1e-9
    assert (log_det - same).abs().max() < 1e-8


def test_identity_at_first_on_any_positions():
    f = particle_couplings(n_layers=3, n_bins=16, n_frequencies=8, network=Attention(8))
    y, log_det = f.forward(POSITIONS(200))
    assert on_circle(y - POSITIONS(200)).abs().max() < 1e-14
    assert log_det.abs().max() < 1e-12


def test_every_parameter_learns():
    """From the identity the outer layers learn at once, the others as soon as these have."""
    f = published()
    y, log_det = f.forward(POSITIONS(5))
    ((y - 0.3).square().sum() + log_det.sum()).backward()
    names = [name for name, p in f.named_parameters() if not p.grad.abs().max() > 0]
    assert not names


def test_published_numbers_of_parameters():
    """Less what a seam with one slope instead of two equal ones leaves out: 257 per coordinate."""

    def count(**settings):
        return sum(p.numel() for p in particle_couplings(**settings).parameters())

    assert count(n_frequencies=8) == 76_932_624 - 24 * 3 * 257
    tutorial = count(n_layers=4, n_frequencies=2, network=Attention(32))
    assert tutorial == 222_424 - 4 * 3 * 33


def test_single_precision_networks_keep_maps_in_double():
    f = published(dtype=torch.float32)
    x = POSITIONS(20)
    y, log_det = f.forward(x)
    assert y.dtype == log_det.dtype == torch.float64
    back, _ = f.inverse(y)
    assert on_circle(back - x).abs().max() < 1e-5


def test_positions_in_a_cell_may_leave_it():
    f = InCell(published(), CELL)
    x = POSITIONS(5) @ CELL
    assert torch.allclose(f.forward(x + CELL[1] - CELL[0])[0], f.forward(x)[0], atol=1e-9)


def test_pinned_displacements_keep_mean_zero():
    y, _ = CASES["pinned"].make().forward(CASES["pinned"].points(5))
    assert y.view(5, -1, 3).mean(1).abs().max() < 1e-15


def test_pinned_starts_as_the_identity():
    f = Pinned(particle_couplings(n_layers=2, network=Attention(8)), SITES, BOX)
    u = CASES["pinned"].points(100)
    y, log_det = f.forward(u)
    assert (y - u).abs().max() < 1e-13
    assert log_det.abs().max() < 1e-12


def test_a_split_needs_two_sides():
    network = Transformer(4, 4, Attention(4))
    for moved in ([], [0, 1, 2], [3]):
        with pytest.raises(InputError, match="some but not all"):
            ParticleCoupling(moved, 3, 1, CircularSpline(2, 1.0), network)


def test_shifts_wrap():
    shift = CircularShift(2)
    with torch.no_grad():
        shift.shift.copy_(torch.tensor([0.7, -0.4]))
    y, _ = shift.forward(torch.tensor([[[0.5, 0.1]]], dtype=torch.float64))
    assert torch.allclose(y, torch.tensor([[[0.2, 0.7]]], dtype=torch.float64))
