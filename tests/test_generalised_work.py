"""Free energies through maps, perfect and partial, and the mistakes that must be caught."""

import math

import numpy as np
import pytest
import torch

from assertions import assert_calibrated, assert_consistent
from exact import NormalState
from helmflow.bijectors import Affine, Inverse
from helmflow.densities import DiagonalNormal, Flow
from helmflow.estimators import bar, fep
from helmflow.generalised_work import density_work, work


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


A = NormalState(mean=vector(0.0, 0.0, 1.0), width=vector(1.0, 1.0, 2.0))
B = NormalState(mean=vector(3.0, -2.0, 1.5), width=vector(0.3, 1.5, 1.0))
DELTA_F = B.free_energy - A.free_energy
SCALE = B.width / A.width
PERFECT = Affine(SCALE, B.mean - SCALE * A.mean)
PARTIAL = Affine(vector(0.45, 1.3, 0.6), vector(2.9, -1.8, 0.7))


def works(n: int, generator: torch.Generator, bijector: Affine) -> tuple[np.ndarray, np.ndarray]:
    u_a, u_b = A.reduced_potential, B.reduced_potential
    w_F = work(A.sample(n, generator), u_a, u_b, bijector)
    w_R = work(B.sample(n, generator), u_b, u_a, Inverse(bijector))
    return w_F.numpy(), w_R.numpy()


def test_perfect_map_makes_the_work_constant(generator):
    w_F, w_R = works(100, generator, PERFECT)
    assert w_F == pytest.approx(DELTA_F, abs=1e-10)
    assert w_R == pytest.approx(-DELTA_F, abs=1e-10)
    assert bar(w_F, w_R).value == pytest.approx(DELTA_F, abs=1e-10)


@pytest.mark.parametrize("estimator", ["fep", "bar"])
def test_partial_map_is_exact_with_calibrated_errors(generator, estimator):
    estimates = []
    for _ in range(300):
        w_F, w_R = works(300, generator, PARTIAL)
        estimates.append(fep(w_F) if estimator == "fep" else bar(w_F, w_R))
    z = np.array([(estimate.value - DELTA_F) / estimate.stderr for estimate in estimates])
    assert_calibrated(z)
    assert np.median([estimate.stderr for estimate in estimates]) < 0.1


@pytest.mark.parametrize("n", [20_000])
def test_mutants_of_the_work_are_caught(generator, n):
    w_F, w_R = works(n, generator, PARTIAL)
    log_det = float(PARTIAL.scale.log().sum())

    def check(forward, reverse):
        estimate = bar(forward, reverse)
        assert estimate.diagnostics["crooks_chance"] > 1e-6, "Crooks"
        assert_consistent(estimate.value, estimate.stderr, DELTA_F, resolve=0.1)

    check(w_F, w_R)
    mutants = {
        "no log-det": (w_F + log_det, w_R - log_det),
        "log-det sign flipped": (w_F + 2.0 * log_det, w_R - 2.0 * log_det),
        "reverse work negated": (w_F, -w_R),
    }
    for mutant in mutants.values():
        # works that contradict each other are told apart before their number is looked at
        with pytest.raises(AssertionError, match=r"Crooks|z ="):
            check(*mutant)
    for forward in (w_F + log_det, w_F + 2.0 * log_det):
        estimate = fep(forward)
        with pytest.raises(AssertionError, match="z ="):
            assert_consistent(estimate.value, estimate.stderr, DELTA_F, resolve=0.1)


def test_without_a_map_the_work_is_the_difference_of_potentials(generator):
    x = A.sample(10, generator)
    expected = B.reduced_potential(x) - A.reduced_potential(x)
    assert torch.equal(work(x, A.reduced_potential, B.reduced_potential), expected)


def test_a_flow_gives_absolute_free_energies(generator):
    base = DiagonalNormal(torch.zeros(3, dtype=torch.float64), vector(1.0, 1.0, 1.0))
    flow = Flow(base, Affine(vector(0.35, 1.6, 1.1), B.mean))
    x, log_q = flow.sample_and_log_prob(20_000, generator)
    y = B.sample(20_000, generator)
    w_F = density_work(x, log_q, B.reduced_potential)
    w_R = -density_work(y, flow.log_prob(y), B.reduced_potential)
    estimate = bar(w_F, w_R)
    assert_consistent(estimate.value, estimate.stderr, B.free_energy, resolve=0.05)
    # <w> = f + KL(q || p)
    ratio = vector(0.35, 1.6, 1.1) / B.width
    kl = float((0.5 * (ratio**2 - 1.0) - ratio.log()).sum())
    stderr = float(w_F.std()) / math.sqrt(20_000)
    assert_consistent(float(w_F.mean()), stderr, B.free_energy + kl, resolve=0.1)
