"""Errors where few samples count: inflated, without jumps, and quick where nothing overlaps."""

import math

import numpy as np
import pytest

from exact import autoregressive, gaussian_works
from helmflow import InputError
from helmflow.estimators import bar, fep, integrated_autocorrelation, mbar, reweight

REPLICAS = 100


def chi_squared(replica) -> float:
    return float(np.mean([replica() ** 2 for _ in range(REPLICAS)]))


@pytest.mark.parametrize(("n", "sigma"), [(50, 2.0), (50, 4.0), (300, 2.0), (300, 4.0)])
def test_perturbation_with_few_effective_samples(rng, n, sigma):
    def replica():
        estimate = fep(sigma * rng.normal(size=n) + 0.5 * sigma**2)
        return estimate.value / estimate.stderr

    assert chi_squared(replica) < 1.8


@pytest.mark.parametrize("shift", [1.0, 2.0, 3.0])
def test_reweighting_to_where_few_samples_are(rng, shift):
    def replica():
        x = rng.normal(size=100)
        estimate = reweight(x, shift * x)
        return (estimate.value - shift) / estimate.stderr

    assert chi_squared(replica) < 1.8


def test_many_effective_samples_have_the_usual_error(rng):
    x = rng.normal(size=2000)
    estimate = reweight(x, 0.3 * x)
    w = np.exp(0.3 * x)
    usual = np.sqrt(((w / w.sum()) ** 2) @ (x - estimate.value) ** 2)
    assert estimate.stderr == pytest.approx(usual, rel=1e-3)
    # a few impossible samples say nothing of the others
    lost = np.where(np.arange(2000) < 20, -1e6, 0.3 * x)
    assert reweight(x, lost).stderr < 1.1 * usual
    found = fep(0.3 * x)
    assert found.stderr == pytest.approx(found.diagnostics["stderr_bootstrap"], rel=0.2)


def test_the_error_of_bar_does_not_jump_where_samples_begin_to_overlap(rng):
    w_F, w_R = gaussian_works(rng, 100, 100, delta_f=0.0, sigma=6.0)
    rows = [bar(w_F - shift, w_R - shift) for shift in np.linspace(0.0, 14.0, 600)]
    shared = np.array([row.diagnostics["n_overlap"] for row in rows])
    errors = np.log([row.stderr for row in rows])
    assert shared.min() < 8.0
    assert shared.max() > 22.0
    assert np.abs(np.diff(errors)).max() < 0.25


@pytest.mark.parametrize("length", [4, 8, 15, 25])
def test_short_series_inflate_their_error(rng, length):
    tau = 10.0
    series = autoregressive(rng, 300, int(length * tau), math.exp(-1.0 / tau))
    scores = [x.mean() ** 2 / x.var() * integrated_autocorrelation(x).n_eff for x in series]
    assert 0.5 < np.mean(scores) < (4.0 if length < 8 else 2.2)  # 6.3 and 2.5 as they come


def test_independent_states_are_told_apart_at_once(rng):
    """Two pairs of states without a common sample: known within, unknown between."""
    centres = np.array([0.0, 1.0, 80.0, 81.0])
    x = np.concatenate([rng.normal(c, 1.0, 200) for c in centres])
    found = mbar(0.5 * (x - centres[:, None]) ** 2 + centres[:, None], [200] * 4)
    assert np.isfinite(found.stderr_ij[:2, :2]).all()
    assert np.isfinite(found.stderr_ij[2:, 2:]).all()
    assert np.isinf(found.stderr_ij[:2, 2:]).all()
    for i, j in ((0, 1), (2, 3)):
        assert found.f_k[j] - found.f_k[i] == pytest.approx(1.0, abs=5 * found.stderr_ij[i, j])


def test_states_in_any_order_are_connected(rng):
    centres = np.array([0.0, 4.0, 2.0, 6.0])  # neighbours in the list hardly overlap
    x = np.concatenate([rng.normal(c, 1.0, 300) for c in centres])
    u = 0.5 * (x - centres[:, None]) ** 2
    found, order = mbar(u, [300] * 4), [0, 2, 1, 3]
    in_order = mbar(
        u[order][:, np.concatenate([300 * k + np.arange(300) for k in order])], [300] * 4
    )
    np.testing.assert_allclose(found.f_k[order], in_order.f_k, atol=1e-9)
    assert (np.abs(found.f_k) < 5.0 * found.stderr_k + 1e-12).all()


def test_quantities_are_converted_or_refused():
    unit = pytest.importorskip("openmm.unit")
    works = np.linspace(0.0, 1.0, 30)
    plain = fep(works)
    kT = 2.5 * unit.kilojoule_per_mole
    assert fep(unit.Quantity(works, unit.dimensionless)).value == plain.value
    assert fep([2.5 * w * unit.kilojoule_per_mole / kT for w in works]).value == pytest.approx(
        plain.value
    )
    for energies in (works * kT, [w * kT for w in works]):
        with pytest.raises(InputError, match=r"^w_F: expected plain numbers.*kilojoule/mole$"):
            fep(energies)
    with pytest.raises(InputError, match=r"^w_R: .*quantity in eV$"):
        bar(works, Pint(works))
    assert bar(works, Pint(works, dimensionless=True)).value == bar(works, works).value


class Pint:
    """What pint's quantities have."""

    def __init__(self, magnitude, dimensionless=False):
        self.magnitude, self.dimensionless = magnitude, dimensionless
        self.units = "dimensionless" if dimensionless else "eV"

    def to(self, _):
        return self
