"""Properties of fep, bar and mbar that hold for every data set, and agreement with pymbar."""

import numpy as np
import pymbar
import pytest
import torch

from exact import gaussian_works
from helmflow.estimators import bar, fep, mbar, overlap


@pytest.fixture
def works(rng):
    return gaussian_works(rng, 400, 300, delta_f=3.0, sigma=1.5)


@pytest.fixture
def harmonic(rng):
    """Three displaced oscillators of different stiffness: u_kn, n_k and the exact f_k."""
    mean, width, n_k = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.2, 0.7]), [300, 200, 250]
    x = np.concatenate([rng.normal(m, s, n) for m, s, n in zip(mean, width, n_k, strict=True)])
    return 0.5 * ((x - mean[:, None]) / width[:, None]) ** 2, n_k, -np.log(width)


def test_order_of_samples_does_not_matter(works, rng):
    w_F, w_R = works
    shuffled = rng.permutation(w_F), rng.permutation(w_R)
    assert fep(shuffled[0]).value == pytest.approx(fep(w_F).value, abs=1e-12)
    assert bar(*shuffled).value == pytest.approx(bar(w_F, w_R).value, abs=1e-10)


@pytest.mark.parametrize("shift", [-1e5, 0.3, 1e5])
def test_constant_in_u_b_shifts_delta_f(works, shift):
    w_F, w_R = works
    assert fep(w_F + shift).value == pytest.approx(fep(w_F).value + shift, abs=1e-9)
    plain, shifted = bar(w_F, w_R), bar(w_F + shift, w_R - shift)
    assert shifted.value == pytest.approx(plain.value + shift, abs=1e-9)
    assert shifted.stderr == pytest.approx(plain.stderr, rel=1e-6)


def test_swapping_the_states_flips_the_sign(works):
    w_F, w_R = works
    forward, backward = bar(w_F, w_R), bar(w_R, w_F)
    assert forward.value == pytest.approx(-backward.value, abs=1e-10)
    key = "stderr_asymptotic"
    assert forward.diagnostics[key] == pytest.approx(backward.diagnostics[key], rel=1e-9)


def test_equal_states_give_zero_with_zero_error():
    zeros = np.zeros(20)
    assert (fep(zeros).value, fep(zeros).stderr) == (0.0, 0.0)
    estimate = bar(zeros, zeros)
    assert estimate.value == pytest.approx(0.0, abs=1e-12)
    assert estimate.stderr < 1e-8
    assert estimate.diagnostics["overlap"] == pytest.approx(0.5)


def test_bar_agrees_with_pymbar(works):
    w_F, w_R = works
    theirs, ours = pymbar.bar(w_F, w_R), bar(w_F, w_R)
    assert ours.value == pytest.approx(theirs["Delta_f"], abs=1e-9)
    assert ours.diagnostics["stderr_asymptotic"] == pytest.approx(theirs["dDelta_f"], rel=0.05)


def test_fep_agrees_with_pymbar(works):
    theirs, ours = pymbar.exp(works[0]), fep(works[0])
    assert ours.value == pytest.approx(theirs["Delta_f"], abs=1e-10)
    assert ours.diagnostics["stderr_asymptotic"] == pytest.approx(theirs["dDelta_f"], rel=0.01)


def test_mbar_of_two_states_is_bar(works):
    w_F, w_R = works
    u_kn = np.stack([np.zeros(w_F.size + w_R.size), np.concatenate([w_F, -w_R])])
    ours, pair = mbar(u_kn, [w_F.size, w_R.size], g=[2.0, 3.0]), bar(w_F, w_R, g=(2.0, 3.0))
    difference = ours.difference(0, 1)
    assert difference.value == pytest.approx(pair.value, abs=1e-8)
    assert difference.stderr == pytest.approx(pair.stderr, rel=1e-4)
    assert ours.difference(1, 0).value == pytest.approx(-pair.value, abs=1e-8)
    balance = 0.5 * (ours.overlap[0, 1] + ours.overlap[1, 0])
    assert overlap(w_F, w_R, pair.value) == pytest.approx(balance, rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_mbar_agrees_with_pymbar(harmonic, offset):
    u_kn, n_k, _ = harmonic
    u_kn = u_kn + offset * np.array([0.0, 1.0, -1.0])[:, None]
    reference = pymbar.MBAR(u_kn, n_k, solver_protocol="robust")
    theirs, ours = reference.compute_free_energy_differences(), mbar(u_kn, n_k)
    assert ours.f_k == pytest.approx(theirs["Delta_f"][0], abs=1e-7)
    assert ours.stderr_ij == pytest.approx(theirs["dDelta_f"], rel=0.3)
    assert ours.overlap == pytest.approx(reference.compute_overlap()["matrix"], abs=1e-7)


def test_mbar_finds_the_exact_answer(harmonic):
    u_kn, n_k, f_k = harmonic
    ours = mbar(u_kn, n_k)
    z = (ours.f_k - (f_k - f_k[0]))[1:] / ours.stderr_k[1:]
    assert np.abs(z).max() < 5.0
    assert ours.stderr_k.max() < 0.15


def test_same_data_same_error_bar(works):
    assert bar(*works) == bar(*works)
    assert fep(works[0]) == fep(works[0])


def test_correlated_samples_widen_the_error(works):
    w_F, w_R = works
    g = (9.0, 9.0)
    assert bar(w_F, w_R, g=g).stderr == pytest.approx(3.0 * bar(w_F, w_R).stderr, rel=0.3)
    assert bar(w_F, w_R, g=g).n_eff == pytest.approx(300 / 9)
    key = "stderr_asymptotic"
    wide, narrow = fep(w_F, g=4.0).diagnostics[key], fep(w_F).diagnostics[key]
    assert wide == pytest.approx(2.0 * narrow)


def test_torch_and_numpy_are_the_same(works):
    tensors = [torch.from_numpy(w).requires_grad_() for w in works]
    assert bar(*tensors) == bar(*works)
    assert fep(tensors[0]) == fep(works[0])
