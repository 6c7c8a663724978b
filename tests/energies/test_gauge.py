"""Actions of links against derivatives, symmetry and exact values."""

import math

import numpy as np
import pytest
import torch

from helmflow.densities.haar import HaarAngles, HaarMatrices
from helmflow.energies.gauge import U1Wilson
from helmflow.energies.gauge_exact import (
    charge_distribution,
    eigenangle_grid,
    exact_gauge,
    single_link,
    wilson_loop,
)
from helmflow.energies.wilson import SingleLink, SUWilson, mean_traces
from helmflow.errors import InputError
from helmflow.estimators.fep import fep
from helmflow.estimators.reweighting import reweight
from helmflow.manifolds.links import curl, plaquette_angles, topological_charge
from helmflow.manifolds.special_unitary import exponential, haar_matrices, hermitian_part
from helmflow.streams import stream

U1_TABLE = [  # extent, beta, ln Z (Haar measure), <cos P>, <Q^2>
    (4, 1, 3.774634707297, 0.44639391203, 0.6500977944),
    (4, 4, 38.97469532, 0.870697751885, 0.03189069604),
    (8, 2, 52.73558666, 0.697774658011, 1.239298911),
    (8, 7, 328.1735759, 0.925700364351, 0.2171108325),
    (16, 5, 845.9985346, 0.893383137044, 1.47348666),
    (16, 7, 1312.638186, 0.925532210854, 1.006414158),
]
SU_TABLE = [  # colours, extent, beta, ln Z, plaquette
    (2, 4, 2.2, 8.862957712599, 0.464480549736),
    (2, 8, 2.2, 35.45181207813, 0.46447902527),
    (2, 4, 4.0, 25.36268223828, 0.658185074567),
    (3, 4, 5.0, 13.55290900804, 0.3539544614),
    (3, 8, 6.0, 79.09696586220, 0.4225317396),
]
LINK_TABLE = [  # colours, beta, c, ln Z, moments, ESS of Haar proposals
    (3, 9, (1.0, 0.0, 0.0), 2.7583974242, (0.5803755665, -0.0410000168), 0.02847970),
    (3, 9, (0.98, -0.63, -0.21), 3.9238584559, (0.4717562579, -0.2444018619), 0.10296715),
    (3, 9, (0.17, -0.65, 1.22), 8.7624455117, (0.0599252296, -0.1087879407), 0.14515957),
    (3, 1, (1.0, 0.0, 0.0), 0.0293094205, (0.0601265548, -0.0547136263), 0.93758762),
    (2, 9, (0.98, -0.63, -0.21), 7.6803350120, (0.4167364939, -0.6061479791), 0.30641909),
    (2, 9, (0.17, -0.65, 1.22), 11.6796208661, (-0.3956638393, -0.6711307442), 0.18159998),
]


@pytest.mark.parametrize(("extent", "beta", "log_z", "plaquette", "charge"), U1_TABLE)
def test_exact_values_of_u1(extent, beta, log_z, plaquette, charge):
    found = exact_gauge(1, float(beta), extent**2)
    assert found.log_z == pytest.approx(log_z, rel=3e-10)
    assert found.plaquette == pytest.approx(plaquette, abs=2e-11)
    assert found.charge_squared == pytest.approx(charge, rel=2e-9)
    assert wilson_loop(float(beta), 1, extent**2) == pytest.approx(plaquette, abs=1e-11)
    probability = charge_distribution(float(beta), extent**2, 12)
    second = 2.0 * float(np.arange(13) ** 2 @ probability)
    assert second == pytest.approx(charge, rel=1e-4)


def test_published_charge_distribution():
    found = charge_distribution(2.0, 64, 4)
    expected = [0.35899107, 0.23921852, 0.07111581, 0.00955944, 0.00059303]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(("colours", "extent", "beta", "log_z", "plaquette"), SU_TABLE)
def test_exact_values_of_su(colours, extent, beta, log_z, plaquette):
    found = exact_gauge(colours, beta, extent**2)
    assert found.log_z == pytest.approx(log_z, rel=1e-11)
    assert found.plaquette == pytest.approx(plaquette, abs=1e-9)


@pytest.mark.parametrize(("colours", "beta", "c", "log_z", "moments", "ess"), LINK_TABLE)
def test_haar_proposals_reproduce_single_links(colours, beta, c, log_z, moments, ess):
    """A zero-layer model: Haar sampler, sign of the action, weights, all at once."""
    exact, exact_moments = single_link(colours, float(beta), c)
    assert exact == pytest.approx(log_z, abs=1e-9)
    np.testing.assert_allclose(exact_moments[:2], moments, atol=1e-9)
    density = HaarMatrices((), colours)
    x, log_q = density.sample_and_log_prob(60_000, stream(1, "links"))
    energy = SingleLink(colours, beta=float(beta), coefficients=list(c))
    work = (energy(x) + log_q).numpy()
    estimate = fep(work)
    assert estimate.stderr < 0.03
    assert abs(-estimate.value - log_z) < 5.0 * estimate.stderr
    assert estimate.diagnostics["ess_fraction"] == pytest.approx(ess, rel=0.1)
    power = x @ x
    for k, values in ((0, x), (1, power)):
        series = torch.diagonal(values, dim1=-2, dim2=-1).sum(-1).real.numpy() / colours
        mean = reweight(series, -work)
        assert abs(mean.value - moments[k]) < 5.0 * mean.stderr


@pytest.mark.parametrize(("extent", "beta", "ess"), [(4, 0.25, 0.614629779), (8, 0.25, 0.14271)])
def test_uniform_proposals_of_u1(extent, beta, ess):
    exact = exact_gauge(1, beta, extent**2)
    assert exact.haar_ess == pytest.approx(ess, rel=1e-6)
    x, log_q = HaarAngles((extent, extent)).sample_and_log_prob(20_000, stream(2, "u1"))
    estimate = fep((U1Wilson((extent, extent), beta=beta)(x) + log_q).numpy())
    assert abs(-estimate.value - exact.log_z) < 5.0 * estimate.stderr < 0.15


def test_uniform_proposals_of_su2():
    exact = exact_gauge(2, 0.5, 16)
    assert (exact.log_z, exact.haar_ess) == pytest.approx((0.497422626, 0.380929166), rel=1e-7)
    x, _ = HaarMatrices((2, 4, 4), 2).sample_and_log_prob(4000, stream(3, "su2"))
    estimate = fep(SUWilson((4, 4), n_colours=2, beta=0.5)(x).numpy())
    assert abs(-estimate.value - exact.log_z) < 5.0 * estimate.stderr < 0.15


def test_eigenangle_grid_is_normalised():
    for colours in (2, 3):
        assert eigenangle_grid(colours)[1].sum() == pytest.approx(1.0, abs=1e-12)


def test_u1_geometry():
    x, _ = HaarAngles((4, 6)).sample_and_log_prob(5, stream(4, "x"))
    energy = U1Wilson((4, 6), beta=1.7)
    value, gradient = energy.energy_and_gradient(x)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(leaf).sum(), leaf)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(value, energy(x), rtol=0, atol=1e-12)
    alpha = 6.0 * torch.rand(5, 4, 6, generator=stream(5, "a"), dtype=torch.float64)
    turned = x + torch.stack([alpha - alpha.roll(-1, axis) for axis in (1, 2)], 1)
    torch.testing.assert_close(energy(turned), value, rtol=0, atol=1e-11)
    charge = topological_charge(x)
    torch.testing.assert_close(charge, charge.round(), rtol=0, atol=1e-12)
    psi = torch.rand(1, 4, 6, dtype=torch.float64)
    laplacian = 4 * psi - sum(psi.roll(s, a) for s in (1, -1) for a in (1, 2))
    torch.testing.assert_close(plaquette_angles(curl(psi)), laplacian)


@pytest.mark.parametrize("colours", [2, 3])
def test_su_force_and_invariance(colours):
    """dS along exp(i eps X) U is tr(X F) for Hermitian X; gauge transformations do nothing."""
    x = haar_matrices((3, 2, 4, 5), colours, stream(6, "x"))
    energy = SUWilson((4, 5), n_colours=colours, beta=2.5)
    value, force = energy.force(x)
    torch.testing.assert_close(value, energy(x))
    direction = hermitian_part(haar_matrices((3, 2, 4, 5), colours, stream(7, "d")))
    eps = 1e-4
    ahead, behind = (energy(exponential(s * eps * direction) @ x) for s in (1, -1))
    along = (direction @ force).diagonal(dim1=-2, dim2=-1).sum((-1, 1, 2, 3)).real
    torch.testing.assert_close((ahead - behind) / (2 * eps), along, rtol=1e-6, atol=1e-6)
    g = haar_matrices((3, 4, 5), colours, stream(8, "g"))
    turned = torch.stack([g @ x[:, mu] @ g.roll(-1, mu + 1).mH for mu in (0, 1)], 1)
    torch.testing.assert_close(mean_traces(turned), mean_traces(x), rtol=0, atol=1e-12)


def test_mistakes():
    with pytest.raises(InputError, match=r"field.shape"):
        U1Wilson((2, 8), beta=1.0)
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match=r"potential.beta"):
            U1Wilson((8, 8), beta=wrong)
    with pytest.raises(InputError, match=r"potential.n_colours"):
        SUWilson((8, 8), n_colours=4, beta=1.0)
    with pytest.raises(InputError, match="links"):
        U1Wilson((8, 8), beta=1.0)(torch.zeros(3, 2, 8, 4, dtype=torch.float64))
    with pytest.raises(InputError, match="finite"):
        U1Wilson((4, 4), beta=1.0)(torch.full((1, 2, 4, 4), math.nan, dtype=torch.float64))
    links = SUWilson((4, 4), n_colours=3, beta=1.0).cold_start(1)
    with pytest.raises(InputError, match="special unitary"):
        SUWilson((4, 4), n_colours=3, beta=1.0)(1.01 * links)
    with pytest.raises(InputError, match="coefficients"):
        SingleLink(2, beta=1.0, coefficients=[])
    with pytest.raises(InputError, match="n_colours"):
        exact_gauge(4, 1.0, 16)


@pytest.mark.parametrize(("colours", "per_coupling"), [(1, 1 / 2), (2, 1 / 4), (3, 1 / 18)])
def test_plaquettes_at_small_coupling(colours, per_coupling):
    """Linear in beta, down to exactly zero."""
    assert exact_gauge(colours, 0.0, 16).plaquette == 0.0
    for beta in (1e-6, 1e-4, 1e-3, 1.9e-3, 2.1e-3):
        found = exact_gauge(colours, beta, 16).plaquette
        assert found == pytest.approx(per_coupling * beta, rel=1e-3, abs=1e-11)
