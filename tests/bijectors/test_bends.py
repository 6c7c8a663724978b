"""Bent lines: straight ends, and what single bends are for."""

import torch

from helmflow.bijectors.elementwise import STEEPEST, Bends
from helmflow.streams import stream

X = torch.cat([torch.linspace(-8, 8, 401), torch.tensor([-1e3, 1e-9, 1e3])]).double()


def parameters(scale=2.0):
    return scale * torch.randn(len(X), 3, generator=stream(0, "p"), dtype=torch.float64)


def test_inverse_far_out():
    f, p = Bends(), parameters()
    y, log_slope = f.forward(X, p)
    x, back = f.inverse(y, p)
    assert torch.allclose(x, X, rtol=1e-10, atol=1e-10)
    assert torch.allclose(log_slope, -back, atol=1e-9)


def test_linear_growth_and_a_fixed_origin():
    f, p = Bends(), parameters(100.0)
    far = torch.full_like(X, 1e8)
    y, _ = f.forward(far, p)
    assert (y <= far * (1 + STEEPEST) ** 3 * (1 + 1e-6)).all()
    origin, _ = f.forward(torch.zeros_like(X), p)
    assert origin.abs().max() < 1e-14


def test_skew_and_tails():
    x = torch.tensor([2.0, -2.0], dtype=torch.float64)
    skewed, _ = Bends().forward(x, torch.tensor([[0.0, 1, 0]] * 2, dtype=torch.float64))
    assert (skewed - x > 0.5).all()
    f = Bends((-1.0, 1.0))
    tails, _ = f.forward(10 * x, torch.tensor([[-0.5, 0.5]] * 2, dtype=torch.float64))
    small, _ = f.forward(0.1 * x, torch.tensor([[-0.5, 0.5]] * 2, dtype=torch.float64))
    assert (tails / x > 15 * small / (0.1 * x) / 1.9).all()
