"""Flows of lattice fields: Jacobians, symmetries, round trips, other volumes."""

import pytest
import torch

from field_flows import couplings, fields, free_field, images, jolt, sine_flow
from helmflow.bijectors.checkerboard import CheckerboardCoupling, checkerboard_couplings
from helmflow.densities.flow import Flow
from helmflow.energies.phi4 import Phi4
from helmflow.errors import InputError
from helmflow.objectives import path_gradient_reverse_kl, with_known_gradient
from helmflow.objectives.path_gradient import carried_score_reverse_kl
from helmflow.streams import stream

SHAPES = [(4, 4), (4, 6)]


def log_det_of_jacobian(function, x):
    rows = torch.autograd.functional.jacobian(lambda x: function(x).sum(0), x).permute(1, 0, 2)
    return torch.linalg.slogdet(rows).logabsdet


@pytest.mark.parametrize("bend", [-3.0, 3.0])
def test_strong_local_bends_are_inverted(bend):
    layer = CheckerboardCoupling((4, 4), 2, 0, stream(0, "layer")).requires_grad_(False)
    layer.local[1] = bend
    x = 5.0 * fields((4, 4))
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_divergence_is_the_trace_of_the_jacobian(shape):
    flow, x = sine_flow(shape), fields(shape)
    rows = torch.autograd.functional.jacobian(lambda x: flow.velocity(x, 0.3)[0].sum(0), x)
    trace = rows.permute(1, 0, 2).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(flow.velocity(x, 0.3)[1], trace, rtol=1e-10, atol=1e-10)


def test_continuous_log_det_converges_to_that_of_the_jacobian():
    x, errors = 0.3 * fields((4, 4)), []
    for n_steps in (8, 16):
        flow = sine_flow((4, 4), n_steps=n_steps)
        expected = log_det_of_jacobian(lambda x, flow=flow: flow.forward(x)[0], x)
        errors.append((flow.forward(x)[1] - expected).abs().max().item())
    assert errors[1] < errors[0] / 10.0
    flow, x = sine_flow((4, 4), n_steps=256, size=0.01), x[:1]
    expected = log_det_of_jacobian(lambda x: flow.forward(x)[0], x)
    torch.testing.assert_close(flow.forward(x)[1], expected, rtol=1e-10, atol=1e-10)


def test_carried_score_is_the_gradient_of_the_log_density():
    base, flow = free_field((4, 4)), sine_flow((4, 4), n_steps=64, size=0.01)
    z = 0.4 * fields((4, 4))
    x, log_det, score = flow.forward_with_score(z, base.score(z))
    torch.testing.assert_close((x, log_det), flow.forward(z), rtol=1e-12, atol=1e-12)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(Flow(base, flow).log_prob(leaf).sum(), leaf)
    torch.testing.assert_close(score, expected, rtol=1e-6, atol=1e-6)


def test_path_gradient_equals_that_through_the_inverse():
    shape = (4, 4)
    base, flow = free_field(shape), sine_flow(shape, n_steps=32)
    whole = Flow(base, flow).requires_grad_(True)
    energy = Phi4(shape, mass_squared=-4.0, coupling=8.0)

    def target(x):
        action, gradient = energy.energy_and_gradient(x.view(-1, *shape))
        return action, gradient.flatten(1)

    one = carried_score_reverse_kl(base, flow, target, 6, stream(5, "loss"))
    other = path_gradient_reverse_kl(whole, with_known_gradient(target), 6, stream(5, "loss"))
    parameters = list(whole.parameters())
    gradients = [torch.autograd.grad(loss, parameters) for loss in (one, other)]
    torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_continuous_flow_commutes_with_every_symmetry(shape):
    flow, x = sine_flow(shape), fields(shape)
    y, log_det = flow.forward(x)
    for moved, image in zip(images(x, shape), images(y, shape), strict=True):
        found = flow.forward(moved)
        torch.testing.assert_close(found[0], image, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found[1], log_det, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_couplings_commute_with_even_translations_reflections_and_sign(shape):
    flow, x = couplings(shape), fields(shape)
    y, log_det = flow.forward(x)
    phi, image = x.view(-1, *shape), y.view(-1, *shape)
    for move in (
        lambda a: a.roll((1, 1), (1, 2)),
        lambda a: a.flip(1).roll(1, 1),
        lambda a: a.flip(2).roll(1, 2),
        lambda a: -a,
    ):
        found = flow.forward(move(phi).flatten(1))
        torch.testing.assert_close(found[0], move(image).flatten(1), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(found[1], log_det, rtol=1e-10, atol=1e-10)


def test_without_isotropy_directions_are_told_apart():
    shape, x = (4, 4), fields((4, 4))
    flow = sine_flow(shape, isotropic=False)
    turned = x.view(-1, *shape).transpose(1, 2).flatten(1)
    assert not torch.allclose(flow.forward(turned)[1], flow.forward(x)[1])


@pytest.mark.parametrize("make", [sine_flow, couplings])
def test_weights_at_a_multiple_of_the_extent_act_alike_on_periodic_fields(make):
    """A field of period 4 on 8 x 8 sites is moved like its period on 4 x 4 sites."""
    small, large = make((4, 4)), make((8, 8))
    large.load_state_dict(small.state_dict())
    x = fields((4, 4))
    tiled = x.view(-1, 4, 4).tile(1, 2, 2).flatten(1)
    y, log_det = small.forward(x)
    big, big_log_det = large.forward(tiled)
    expected = y.view(-1, 4, 4).tile(1, 2, 2).flatten(1)
    torch.testing.assert_close(big, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(big_log_det, 4.0 * log_det, rtol=1e-10, atol=1e-10)


def test_continuous_flow_stays_finite_far_out():
    """It grows linearly at most, unlike powers of the field."""
    flow = sine_flow((4, 4), size=1.0)
    y, log_det = flow.forward(1e6 * fields((4, 4)))
    assert bool(torch.isfinite(y).all())
    assert bool(torch.isfinite(log_det).all())


def test_untrained_continuous_flow_is_the_identity():
    flow = jolt(sine_flow((4, 4), size=0.0), 0.0)
    x = fields((4, 4))
    assert torch.equal(flow.forward(x)[0], x)


def test_an_odd_extent_has_no_checkerboard():
    with pytest.raises(InputError, match=r"field.shape: expected even extents.*\[4, 5\]"):
        checkerboard_couplings((4, 5), 2, stream(0, "layers"))
