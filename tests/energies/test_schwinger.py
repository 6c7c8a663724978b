"""Wilson fermions in two dimensions: determinants in closed form, identities, mistakes."""

import math

import pytest
import torch

from helmflow.densities.haar import HaarAngles
from helmflow.energies.schwinger import Schwinger
from helmflow.errors import InputError
from helmflow.manifolds.links import plaquette_angles, topological_charge
from helmflow.streams import stream

FREE = [(4, 0.25, 1.3478411184), (4, 0.276, 2.2491731772), (8, 0.263, 6.2567891797)]
FREE += [(8, 0.276, 8.3782649360), (16, 0.276, 33.1493803706)]
FLUX = [  # extent, charge, kappa, ln|det D|, sign
    (4, 1, 0.25, 0.2781222955, 1),
    (4, 1, 0.276, -5.3491925798, -1),
    (4, 2, 0.276, -0.5527039766, 1),
    (8, 1, 0.25, 2.8328688159, 1),
    (8, 1, 0.276, 7.6359123001, -1),
    (8, 2, 0.276, 5.7189859733, 1),
]


def constant_flux(extent, charge):
    x = torch.zeros(1, 2, extent, extent, dtype=torch.float64)
    line = 2.0 * math.pi * charge * torch.arange(extent, dtype=torch.float64)
    x[0, 1] = (line / extent**2)[:, None]
    x[0, 0, -1] = -line / extent
    return x


@pytest.mark.parametrize(("extent", "kappa", "expected"), FREE)
def test_free_determinant(extent, kappa, expected):
    energy = Schwinger((extent, extent), beta=1.0, kappa=kappa)
    sign, log_abs = energy.determinant(energy.cold_start(1))
    assert float(log_abs) == pytest.approx(expected, abs=1e-9)
    assert float(sign) == 1.0
    k0 = (torch.arange(extent) + 0.5)[:, None] * 2 * math.pi / extent
    k1 = torch.arange(extent) * 2 * math.pi / extent
    mass = 1 - 2 * kappa * (k0.cos() + k1.cos())
    closed = (mass**2 + 4 * kappa**2 * (k0.sin() ** 2 + k1.sin() ** 2)).log().sum()
    assert float(log_abs) == pytest.approx(float(closed), abs=1e-5)


@pytest.mark.parametrize(("extent", "charge", "kappa", "expected", "sign"), FLUX)
def test_smooth_instantons(extent, charge, kappa, expected, sign):
    x = constant_flux(extent, charge)
    assert float(topological_charge(x)) == pytest.approx(charge, abs=1e-12)
    flux = 2.0 * math.pi * charge / extent**2
    assert float((plaquette_angles(x).cos() - math.cos(flux)).abs().max()) < 1e-12
    found = Schwinger((extent, extent), beta=1.0, kappa=kappa).determinant(x)
    assert float(found[1]) == pytest.approx(expected, abs=1e-9)
    assert float(found[0]) == sign


def test_identities():
    energy = Schwinger((4, 6), beta=2.0, kappa=0.27)
    x, _ = HaarAngles((4, 6)).sample_and_log_prob(6, stream(0, "x"))
    sign, log_abs = energy.determinant(x)
    whole = torch.linalg.slogdet(energy.matrix(x))
    torch.testing.assert_close(whole.logabsdet, log_abs, rtol=0, atol=1e-10)
    torch.testing.assert_close(whole.sign.real, sign, rtol=0, atol=1e-10)
    assert float(whole.sign.imag.abs().max()) < 1e-10
    d = energy.matrix(x)
    gamma = torch.diag(torch.tensor([1.0, -1.0]).repeat(24)).to(torch.complex128)
    torch.testing.assert_close(gamma @ d @ gamma, d.mH, rtol=0, atol=1e-12)
    alpha = 6.0 * torch.rand(6, 4, 6, generator=stream(1, "a"), dtype=torch.float64)
    turned = x + torch.stack([alpha - alpha.roll(-1, axis) for axis in (1, 2)], 1)
    torch.testing.assert_close(energy.determinant(turned)[1], log_abs, rtol=0, atol=1e-10)
    quenched = Schwinger((4, 6), beta=2.0, kappa=0.0)
    torch.testing.assert_close(quenched(x), quenched.gauge(x), rtol=0, atol=1e-12)


def test_gradient():
    energy = Schwinger((4, 4), beta=2.0, kappa=0.276)
    x, _ = HaarAngles((4, 4)).sample_and_log_prob(2, stream(2, "x"))
    _, gradient = energy.energy_and_gradient(x)
    direction = torch.randn(x.shape, generator=stream(3, "d"), dtype=torch.float64)
    ahead, behind = (energy(x + s * 1e-5 * direction) for s in (1, -1))
    along = (gradient * direction).sum((1, 2, 3))
    torch.testing.assert_close((ahead - behind) / 2e-5, along, rtol=1e-6, atol=1e-6)


def test_mistakes():
    with pytest.raises(InputError, match="even extents"):
        Schwinger((5, 4), beta=1.0, kappa=0.2)
    for kappa in (-0.1, 0.5, math.nan):
        with pytest.raises(InputError, match=r"potential.kappa"):
            Schwinger((4, 4), beta=1.0, kappa=kappa)
