"""Flows of links: log-determinants against Jacobians, gauge equivariance, round trips."""

import math

import pytest
import torch

from bijector_cases import group_log_det, shaken
from helmflow.bijectors.fitted_flow import FittedFlow, Plaquettes, inverse_laplacian
from helmflow.bijectors.loop_couplings import LoopCouplings
from helmflow.bijectors.spectral import SpectralMap
from helmflow.densities.haar import HaarAngles, HaarMatrices
from helmflow.errors import InputError
from helmflow.fields.plaquettes import PlaquetteField
from helmflow.manifolds.links import curl, plaquette_angles
from helmflow.manifolds.special_unitary import (
    eigenangles,
    haar_matrices,
    require_special_unitary,
    spectral_function,
    trace,
)
from helmflow.streams import stream


def links(shape, n, seed=0):
    return HaarAngles(shape).sample_and_log_prob(n, stream(seed, "links"))[0]


def transport(n_steps=16, size=0.05):
    noise = torch.randn(3, PlaquetteField.size, generator=stream(1, "c"), dtype=torch.float64)
    return FittedFlow(PlaquetteField(), size * noise, Plaquettes(), n_steps=n_steps)


def turned(x, seed=3):
    alpha = 6.0 * torch.rand(*x[:, 0].shape, generator=stream(seed, "a"), dtype=torch.float64)
    return x + torch.stack([alpha - alpha.roll(-1, axis) for axis in (1, 2)], 1)


def jacobian(f, x):
    n = x.numel()
    return torch.autograd.functional.jacobian(f, x, vectorize=True).reshape(n, n)


def test_divergence_is_exact():
    flow, x = transport(), links((4, 5), 1)

    def velocity(theta):
        return curl(inverse_laplacian(flow.velocity(plaquette_angles(theta), 0.3)[0]))

    measured = torch.trace(jacobian(velocity, x))
    claimed = flow.velocity(plaquette_angles(x), 0.3)[1][0]
    assert abs(float(measured - claimed)) < 1e-12


def test_transport_log_determinant_and_round_trip():
    flow, x = transport(n_steps=32, size=0.015), links((4, 3), 1)
    measured = torch.linalg.slogdet(jacobian(lambda t: flow.forward(t)[0], x)).logabsdet
    y, log_det = flow.forward(x)
    assert abs(float(measured - log_det[0])) < 3e-8
    back, inverse = flow.inverse(y)
    assert float((back - x).abs().max()) < 1e-8
    assert abs(float(inverse[0] + log_det[0])) < 1e-8


def test_transport_symmetries():
    flow, x = transport(), links((4, 4), 3)
    y, log_det = flow.forward(x)
    moved, moved_det = flow.forward(turned(x))
    torch.testing.assert_close(moved - turned(x), y - x, rtol=0, atol=1e-10)
    torch.testing.assert_close(moved_det, log_det, rtol=0, atol=1e-10)
    shifted, _ = flow.forward(x.roll((1, 2), (2, 3)))
    torch.testing.assert_close(shifted, y.roll((1, 2), (2, 3)), rtol=0, atol=1e-10)
    conjugate, _ = flow.forward(-x)
    torch.testing.assert_close(conjugate, -y, rtol=0, atol=1e-10)
    exchanged, _ = flow.forward(x.flip(1).transpose(2, 3))
    torch.testing.assert_close(exchanged, y.flip(1).transpose(2, 3), rtol=0, atol=1e-10)


def test_stein_functions_have_mean_zero():
    """Under Haar measure (slope zero) the mean divergence of every field is zero."""
    field = PlaquetteField()
    angles = plaquette_angles(links((4, 4), 20_000))
    found = field.stein(angles, torch.zeros_like(angles), 0.0)
    z = found.mean(1) / found.std(1).clamp_min(1e-12) * math.sqrt(20_000)
    assert float(z.abs().max()) < 5.0


@pytest.mark.parametrize("colours", [2, 3])
def test_functions_of_matrices(colours):
    x = haar_matrices((200,), colours, stream(4, "x"))
    angles = eigenangles(x)
    assert float(angles.sum(-1).abs().max()) < 1e-12
    assert float((angles[:, 0] - angles[:, -1]).max()) <= 2.0 * math.pi
    cosines = angles.cos().sum(-1)
    torch.testing.assert_close(cosines, trace(x).real, rtol=0, atol=1e-12)
    torch.testing.assert_close(spectral_function(x, angles, angles), x, rtol=0, atol=1e-12)
    cube = spectral_function(x, angles, 3.0 * angles)
    torch.testing.assert_close(cube, x @ x @ x, rtol=0, atol=1e-12)
    half = spectral_function(x, angles, 0.5 * angles)
    torch.testing.assert_close(half @ half, x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("colours", [2, 3])
def test_spectral_map(colours):
    spectral = shaken(SpectralMap(colours, 2), 0.3)
    x = haar_matrices((6,), colours, stream(5, "x"))
    context = torch.randn(6, 2, generator=stream(6, "c"), dtype=torch.float64)
    with torch.no_grad():
        y, log_det = spectral(x, context)
        require_special_unitary(y, colours)
        back, inverse = spectral(y, context, -1)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
        torch.testing.assert_close(inverse, -log_det, rtol=0, atol=1e-10)
        g = haar_matrices((6,), colours, stream(7, "g"))
        conjugated, same = spectral(g @ x @ g.mH, context)
        torch.testing.assert_close(conjugated, g @ y @ g.mH, rtol=0, atol=1e-10)
        torch.testing.assert_close(same, log_det, rtol=0, atol=1e-10)
        measured = group_log_det(
            lambda z: spectral(z, context[:1].expand(len(z), -1))[0], x[:1], y[:1], colours
        )
        assert abs(measured - float(log_det[0])) < 1e-6


@pytest.mark.parametrize("colours", [2, 3])
def test_loop_couplings_are_gauge_equivariant(colours):
    flow = shaken(LoopCouplings((4, 4), colours, n_bins=4, width=8), 0.3)
    x = HaarMatrices((2, 4, 4), colours).sample_and_log_prob(2, stream(8, "x"))[0]
    with torch.no_grad():
        y, log_det = flow.forward(x)
        require_special_unitary(y, colours)
        g = haar_matrices((2, 4, 4), colours, stream(9, "g"))
        around = [g.roll(-1, axis).mH for axis in (1, 2)]
        gauged, same = flow.forward(torch.stack([g @ x[:, mu] @ around[mu] for mu in (0, 1)], 1))
        expected = torch.stack([g @ y[:, mu] @ around[mu] for mu in (0, 1)], 1)
        torch.testing.assert_close(gauged, expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(same, log_det, rtol=0, atol=1e-10)


def test_loop_couplings_on_tiles():
    """Weights of 4 x 4 move every tile of 8 x 12; on one tile nothing changes."""
    small = shaken(LoopCouplings((4, 4), 2, n_bins=4, width=8), 0.3)
    large = LoopCouplings((8, 12), 2, n_bins=4, width=8, tile=(4, 4))
    same = LoopCouplings((4, 4), 2, n_bins=4, width=8, tile=(4, 4))
    for flow in (large, same):
        flow.load_state_dict(small.state_dict())
    x = haar_matrices((2, 2, 8, 12), 2, stream(8, "tiles"))
    with torch.no_grad():
        y, log_det = large.forward(x)
        back, inverse = large.inverse(y)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
        torch.testing.assert_close(inverse, -log_det, rtol=0, atol=1e-9)
        shifted, shifted_det = large.forward(x.roll((4, 8), (2, 3)))
        torch.testing.assert_close(shifted, y.roll((4, 8), (2, 3)), rtol=0, atol=1e-9)
        torch.testing.assert_close(shifted_det, log_det, rtol=0, atol=1e-9)
        one = x[:, :, :4, :4]
        torch.testing.assert_close(same.forward(one), small.forward(one), rtol=0, atol=0)
    with pytest.raises(InputError, match="multiples"):
        LoopCouplings((8, 10), 2, tile=(4, 4))


def test_mistakes():
    with pytest.raises(InputError, match="powers of two"):
        LoopCouplings((6, 6), 2)
    with pytest.raises(InputError, match="n_colours"):
        SpectralMap(5, 0)
    with pytest.raises(InputError, match="columns"):
        FittedFlow(PlaquetteField(), torch.zeros(2, 7), Plaquettes(), n_steps=4)
    with pytest.raises(InputError, match="extents"):
        transport().forward(torch.zeros(1, 2, 2, 8, dtype=torch.float64))
