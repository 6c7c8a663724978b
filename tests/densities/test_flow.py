"""Densities that need no crystal: the diagonal normal, and flows on top of it."""

import pytest
import torch

from assertions import assert_consistent
from helmflow.bijectors import Affine, DenseAffine
from helmflow.densities import DiagonalNormal, Flow
from helmflow.errors import InputError


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal() -> DiagonalNormal:
    return DiagonalNormal(vector(1.0, -2.0), vector(0.5, 1.5))


def flow() -> Flow:
    return Flow(normal(), DenseAffine(vector(1.0, 0.4, -0.3, 0.8).reshape(2, 2), vector(0.5, 1.0)))


DENSITIES = {
    "normal": normal,
    "flow": flow,
    "flow of a flow": lambda: Flow(flow(), Affine(vector(2.0, -0.5), vector(0.0, 3.0))),
}


@pytest.fixture(params=DENSITIES.values(), ids=DENSITIES.keys())
def density(request):
    return request.param()


def test_samples_come_with_their_own_log_prob(density, generator):
    x, log_q = density.sample_and_log_prob(100, generator)
    assert x.shape == (100, 2)
    torch.testing.assert_close(density.log_prob(x), log_q, rtol=1e-10, atol=1e-10)


def test_integrates_to_one(density, generator):
    x, _ = density.sample_and_log_prob(2000, generator)
    lo, hi = x.min(0).values - 4.0, x.max(0).values + 4.0
    axes = [
        torch.linspace(float(a), float(b), 400, dtype=torch.float64)
        for a, b in zip(lo, hi, strict=True)
    ]
    grid = torch.cartesian_prod(*axes)
    area = float((axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]))
    assert float(density.log_prob(grid).exp().sum()) * area == pytest.approx(1.0, abs=1e-4)


def test_samples_have_the_density_they_claim(density, generator):
    """E[r / q] over samples is the integral of r, for a normal r narrower than q."""
    x, log_q = density.sample_and_log_prob(100_000, generator)
    r = DiagonalNormal(x.mean(0), 0.7 * torch.linalg.eigvalsh(x.T.cov())[0].sqrt().expand(2))
    ratio = (r.log_prob(x) - log_q).exp()
    stderr = float(ratio.std()) / 100_000**0.5
    assert_consistent(float(ratio.mean()), stderr, 1.0, resolve=0.05)


def test_same_generator_same_samples(density):
    x, y = (density.sample_and_log_prob(5, torch.Generator().manual_seed(1))[0] for _ in range(2))
    assert torch.equal(x, y)


def test_mistakes_give_one_readable_line(generator):
    with pytest.raises(InputError, match=r"^scale: expected finite positive numbers"):
        DiagonalNormal(vector(0.0), vector(-1.0))
    with pytest.raises(InputError, match=r"^scale: expected shape \(2,\), got \(1,\)"):
        DiagonalNormal(vector(0.0, 0.0), vector(1.0))
    with pytest.raises(InputError, match=r"^n: expected at least 1 sample, got 0"):
        normal().sample_and_log_prob(0, generator)
    with pytest.raises(InputError, match=r"^x: expected shape \(batch, 2\), got \(2,\)"):
        normal().log_prob(vector(0.0, 0.0))
