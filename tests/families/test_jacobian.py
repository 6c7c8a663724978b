"""Maps whose log-determinant is not that of their Jacobian."""

import pytest
import torch

import helmflow as hf
from helmflow.bijectors.base import Bijector

ROOT = 0.5


class Stretch(Bijector):
    """x / 2, the exact map from exp(-x^2/2) to exp(-2 x^2); its log-determinant may lie."""

    def __init__(self, off):
        super().__init__()
        self.off = off

    def forward(self, x):
        return ROOT * x, self._log_det(x, ROOT)

    def inverse(self, y):
        return y / ROOT, self._log_det(y, 1.0 / ROOT)

    def _log_det(self, x, factor):
        size = x[0].numel() * torch.tensor(factor).log()
        return (size + self.off * size.sign()).expand(len(x)).to(x.dtype)


def result_of(off):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    y = ROOT * torch.randn(200, 3, generator=generator, dtype=torch.float64)
    u_a, u_b = (lambda x, k=k: 0.5 * k * x.square().sum(1) for k in (1.0, 4.0))
    return hf.targeted_fep(u_a, u_b, x, y, map=Stretch(off)).result


@pytest.mark.parametrize(("off", "grade"), [(0.0, "A"), (1e-3, "F"), (-0.5, "F")])
def test_a_log_determinant_that_lies_is_an_f(off, grade):
    result = result_of(off)
    assert result.grade == grade
    check = next(check for check in result.checks if check.name == "log-determinant")
    assert check.value == pytest.approx(abs(off), abs=1e-6)
