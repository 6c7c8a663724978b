"""Derivatives of works in the parameters of a flow, of any energy that torch differentiates."""

import numpy as np
import torch

from helmflow.bijectors.base import Bijector
from helmflow.densities.flow import Flow
from helmflow.densities.gaussian import Gaussian
from helmflow.training.flow_fit import FlowResiduals, natural_gradient

PRECISION = torch.tensor([[2.0, 0.4], [0.4, 1.0]], dtype=torch.float64)


class Sheared(Bijector):
    """``y = (e^a x_0 + c x_1 + d_0, e^b x_1 + d_1)``, which reaches every normal density."""

    def __init__(self):
        super().__init__()
        self.logs = torch.nn.Parameter(torch.tensor([0.1, -0.1], dtype=torch.float64))
        self.shear = torch.nn.Parameter(torch.tensor([0.2, 0.0], dtype=torch.float64))
        self.shift = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x):
        y = x * self.logs.exp() + self.shear * x.flip(1) * torch.tensor([1.0, 0.0]) + self.shift
        return y, self.logs.sum().expand(len(x))

    def inverse(self, y):
        raise NotImplementedError


def branching(x):
    """A harmonic energy that looks at its argument, in NumPy too, before it computes."""
    assert np.isfinite(x.detach().numpy()).all()
    if float(x.detach().abs().max()) < 0.0:
        return torch.zeros(len(x), dtype=torch.float64)
    return 0.5 * ((x - 0.3) @ PRECISION * (x - 0.3)).sum(1)


def flow():
    return Flow(Gaussian(torch.eye(2, dtype=torch.float64)), Sheared())


def noise(n, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_derivatives_are_those_of_the_works():
    residuals = FlowResiduals(flow(), branching, noise(7))
    start = residuals.start()
    columns = []
    for step in 1e-5 * torch.eye(len(start), dtype=torch.float64):
        columns.append((residuals.values(start + step) - residuals.values(start - step)) / 2e-5)
    assert torch.allclose(residuals.jacobian(start), torch.stack(columns, 1), atol=1e-8)


def test_an_energy_that_looks_at_its_argument_is_learned():
    learned = flow()
    loss = natural_gradient(learned, branching, lambda step: noise(200, step), 12)
    assert loss < 1e-6
