"""Losses: values and gradients against closed forms, and what each is zero for."""

import pytest
import torch

from helmflow.errors import InputError
from helmflow.objectives import (
    forward_kl,
    log_variance,
    on_policy_log_variance,
    path_gradient_reverse_kl,
    reverse_kl,
    two_sided,
    two_sided_map,
    with_known_gradient,
)
from helmflow.streams import stream
from trainable import LOG_Z, MEAN, SCALE, perfect, stretched_normal, target, target_samples

N = 40_000


def exact_reverse_kl(flow):
    """<w> of a stretched normal, in closed form."""
    s, t = flow.bijector.log_scale, flow.bijector.shift
    second = (2 * s).exp() + (t - MEAN).square()
    d = len(MEAN)
    entropy = 0.5 * d * (1 + torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))) + s.sum()
    return 0.5 * (second / SCALE.square()).sum() - entropy


def gradients(loss, flow):
    flow.zero_grad()
    loss.backward()
    return torch.cat([p.grad.clone() for p in flow.parameters()])


def moved(flow, seed=3):
    generator = stream(seed, "moved")
    with torch.no_grad():
        for p in flow.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return flow


@pytest.mark.parametrize("objective", [reverse_kl, path_gradient_reverse_kl])
def test_value_and_gradient_of_the_reverse_divergence(objective):
    flow = moved(stretched_normal())
    expected_value = exact_reverse_kl(flow)
    expected = gradients(expected_value, flow)
    loss = objective(flow, target, N, stream(0, "x"))
    assert abs(loss.item() - expected_value.item()) < 0.05
    assert torch.allclose(gradients(loss, flow), expected, atol=0.05)
    assert expected.abs().max() > 0.3


def test_both_estimators_have_the_same_value():
    flow = moved(stretched_normal())
    values = [f(flow, target, 50, stream(0, "x")) for f in (reverse_kl, path_gradient_reverse_kl)]
    assert torch.allclose(*values, rtol=0, atol=1e-12)


def test_path_gradient_vanishes_sample_by_sample_at_the_optimum():
    flow = perfect(stretched_normal())
    path = gradients(path_gradient_reverse_kl(flow, target, 10, stream(1, "x")), flow)
    score = gradients(reverse_kl(flow, target, 10, stream(1, "x")), flow)
    assert path.abs().max() < 1e-12
    assert score.abs().max() > 0.05


def test_reverse_kl_is_an_upper_bound_that_a_perfect_flow_reaches():
    perfect_loss = reverse_kl(perfect(stretched_normal()), target, 10, stream(2, "x"))
    assert abs(perfect_loss.item() + LOG_Z) < 1e-6
    assert reverse_kl(stretched_normal(), target, N, stream(2, "x")).item() > -LOG_Z + 0.3


def test_forward_kl_is_maximum_likelihood():
    samples = target_samples(500, stream(0, "samples"))
    flow = perfect(stretched_normal())
    with torch.no_grad():
        flow.bijector.shift.copy_(samples.mean(0))
        flow.bijector.log_scale.copy_(samples.std(0, unbiased=False).log())
    assert gradients(forward_kl(flow, samples), flow).abs().max() < 1e-12


def test_two_sided_is_zero_at_the_optimum_and_both_divergences_elsewhere():
    samples = target_samples(N, stream(0, "samples"))
    flow = perfect(stretched_normal())
    assert abs(two_sided(flow, target, samples, N, stream(1, "x")).item()) < 1e-10
    flow = moved(stretched_normal())
    gap = two_sided(flow, target, samples, N, stream(1, "x"))
    reverse = exact_reverse_kl(flow) + LOG_Z
    forward = forward_kl(flow, samples) - forward_kl(perfect(stretched_normal()), samples)
    assert abs((gap - reverse - forward).item()) < 0.05


def test_two_sided_of_a_map_agrees_with_that_of_the_flow():
    flow = moved(stretched_normal())
    y = target_samples(100, stream(0, "samples"))
    x, _ = flow.base.sample_and_log_prob(100, stream(1, "x"))
    of_map = two_sided_map(x, y, lambda z: -flow.base.log_prob(z), target, flow.bijector)
    of_flow = two_sided(flow, target, y, 100, stream(1, "x"))
    assert torch.allclose(of_map, of_flow, rtol=0, atol=1e-12)


def test_log_variance_needs_neither_samples_of_the_flow_nor_a_gradient():
    x = 3.0 * torch.randn(200, 3, generator=stream(0, "x"), dtype=torch.float64)
    assert log_variance(perfect(stretched_normal()), target, x) < 1e-20
    flow = moved(stretched_normal())
    numpy_target = lambda x: torch.from_numpy(target(x).numpy())  # noqa: E731
    loss = log_variance(flow, numpy_target, x)
    assert loss > 0.1
    assert gradients(loss, flow).abs().max() > 0.01
    with pytest.raises(InputError, match="at least 2"):
        log_variance(flow, target, x[:1])


def test_on_policy_log_variance_has_half_the_gradient_direction_of_reverse_kl():
    """At x ~ q the expected gradient is twice that of the reverse divergence."""
    flow = moved(stretched_normal())
    found = gradients(on_policy_log_variance(flow, target, N, stream(0, "x")), flow)
    expected = 2 * gradients(exact_reverse_kl(flow), flow)
    assert torch.allclose(found, expected, atol=0.12)


def test_known_gradients_replace_autograd():
    x = torch.randn(5, 3, generator=stream(0, "x"), dtype=torch.float64, requires_grad=True)

    def value_and_gradient(y):
        assert not y.requires_grad
        return target(y), (y - MEAN) / SCALE**2

    u = with_known_gradient(value_and_gradient)
    weights = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    (found,) = torch.autograd.grad((weights * u(x)).sum(), x)
    (expected,) = torch.autograd.grad((weights * target(x)).sum(), x)
    assert torch.allclose(found, expected)
