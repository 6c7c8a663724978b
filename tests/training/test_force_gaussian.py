import math
from dataclasses import replace

import pytest
import torch

from helmflow.bijectors.base import Identity
from helmflow.bijectors.given_torsions import ShiftedByTorsions, torsion_features
from helmflow.errors import InputError
from helmflow.streams import stream
from helmflow.training.force_gaussian import force_gaussian, force_map, gradients_in

STIFF, SOFT = torch.tensor([0, 2, 3]), torch.tensor([1])
SHAPES = (
    torch.tensor([[2.0, 0.5, 0.0], [0.5, 1.0, -0.2], [0.0, -0.2, 0.7]], dtype=torch.float64),
    torch.tensor([[1.0, -0.3, 0.1], [-0.3, 0.8, 0.0], [0.1, 0.0, 1.5]], dtype=torch.float64),
)
MEANS = torch.tensor([[0.1, -0.4, 0.2], [0.6, 0.3, 0.0]], dtype=torch.float64)
BENDS = torch.tensor([[0.0, 0.3, 0.0], [0.2, 0.0, 0.1]], dtype=torch.float64)


def mean(phi, side):
    return MEANS[side] + (3.0 * phi).cos()[:, None] * BENDS[side]


def potential(side):
    """Quadratic in the stiff coordinates about a mean that follows the torsion."""
    precision = torch.linalg.inv(SHAPES[side])

    def u(q):
        d = q[:, STIFF] - mean(q[:, 1], side)
        return 0.5 * ((d @ precision) * d).sum(1)

    return u


def samples(side, n, seed=0):
    generator = stream(seed, f"side {side}")
    phi = 2.0 * math.pi * torch.rand(n, generator=generator, dtype=torch.float64)
    noise = torch.randn((n, 3), generator=generator, dtype=torch.float64)
    s = mean(phi, side) + noise @ torch.linalg.cholesky(SHAPES[side]).T
    return torch.stack([s[:, 0], phi, s[:, 1], s[:, 2]], dim=1)


def fitted(side, n=24):
    q, gradient = gradients_in(Identity(), samples(side, n), potential(side))
    return force_gaussian(q, gradient, STIFF, SOFT)


def test_exact_for_a_quadratic_energy_however_few_the_samples():
    found = fitted(0)
    torch.testing.assert_close(found.covariance, SHAPES[0])
    phi = torch.linspace(0.0, 6.0, 7, dtype=torch.float64)
    features = torsion_features(phi[:, None], 3)
    torch.testing.assert_close(found.mean + features @ found.turning, mean(phi, 0))


def test_the_map_leaves_no_dissipation():
    f = force_map(fitted(0), fitted(1), STIFF, SOFT)
    x = samples(0, 50, seed=1)
    y, log_det = f.forward(x)
    w = potential(1)(y) - potential(0)(x) - log_det
    torch.testing.assert_close(w, w[:1].expand(50))
    assert w[0] == pytest.approx(-0.5 * (SHAPES[1].logdet() - SHAPES[0].logdet()))
    back, minus = f.inverse(y)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(minus, -log_det)
    assert torch.equal(y[:, 1], x[:, 1])


WAVES = torch.tensor([0.8, -0.5], dtype=torch.float64)
CENTRE = torch.tensor([0.7], dtype=torch.float64)


def with_torsion_potential(side):
    """The same with a potential of the torsion, of which the exact densities are known."""
    return lambda q: potential(side)(q) + WAVES[side] * (3.0 * q[:, 1] + side).cos()


def test_torsions_are_turned_to_the_other_density():
    found = []
    for side in (0, 1):
        q, gradient = gradients_in(Identity(), samples(side, 4000), with_torsion_potential(side))
        found.append(force_gaussian(q, gradient, STIFF, SOFT))
    f = force_map(*found, STIFF, SOFT, CENTRE)
    q = samples(0, 200, seed=2)
    q[:, 1] = torch.linspace(0.7 - math.pi, 0.7 + math.pi, 202, dtype=torch.float64)[1:-1]
    y, log_det = f.forward(q)
    w = with_torsion_potential(1)(y) - with_torsion_potential(0)(q) - log_det
    still = force_map(*found, STIFF, SOFT)
    z, other = still.forward(q)
    plain = with_torsion_potential(1)(z) - with_torsion_potential(0)(q) - other
    assert w.std() < 0.05  # a spline of 24 bins, and few samples
    assert plain.std() > 0.5
    back, minus = f.inverse(y)
    torch.testing.assert_close(back, q)
    torch.testing.assert_close(minus, -log_det)


def test_a_torsion_that_is_almost_frozen_makes_a_finite_map():
    a, b = fitted(0), fitted(1)
    steep = replace(b, soft_potential=200.0 * torch.ones_like(b.soft_potential))
    f = force_map(a, steep, STIFF, SOFT, CENTRE)
    q = samples(0, 50)
    q[:, 1] += CENTRE - math.pi
    y, log_det = f.forward(q)
    assert torch.isfinite(y).all()
    torch.testing.assert_close(f.inverse(y)[0], q)
    torch.testing.assert_close(f.inverse(y)[1], -log_det)


def test_without_gradients_samples_or_a_minimum_there_is_none():
    assert gradients_in(Identity(), samples(0, 5), lambda q: potential(0)(q.detach())) is None
    assert fitted(0, n=15) is None
    q, gradient = gradients_in(Identity(), samples(0, 40), lambda q: -potential(0)(q))
    assert force_gaussian(q, gradient, STIFF, SOFT) is None


def test_without_soft_torsions():
    q, gradient = gradients_in(Identity(), samples(0, 40)[:, STIFF], quadratic)
    nothing = torch.tensor([], dtype=torch.long)
    found = force_gaussian(q, gradient, torch.arange(3), nothing)
    torch.testing.assert_close(found.covariance, SHAPES[0])
    torch.testing.assert_close(found.mean, MEANS[0])
    f = force_map(found, found, torch.arange(3), nothing)
    torch.testing.assert_close(f.forward(q)[0], q)


def quadratic(s):
    d = s - MEANS[0]
    return 0.5 * ((d @ torch.linalg.inv(SHAPES[0])) * d).sum(1)


def test_weights_must_fit():
    with pytest.raises(InputError, match="weights: expected shape"):
        ShiftedByTorsions(STIFF, SOFT, torch.zeros(3, 3))
    with pytest.raises(InputError, match="weights: expected shape"):
        ShiftedByTorsions(STIFF, SOFT, torch.zeros(2, 2))
