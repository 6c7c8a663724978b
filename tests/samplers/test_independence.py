import math

import numpy as np
import pytest
import torch

from assertions import assert_consistent
from exact import LOGNORMAL
from helmflow.errors import InputError
from helmflow.estimators import acceptance_rate, integrated_autocorrelation, rejection_tau
from helmflow.samplers import independence_metropolis

CHAINS, LENGTH = 20, 20_000


def mean_and_stderr(values) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))


@pytest.mark.parametrize("case", LOGNORMAL[:4], ids=lambda case: f"s2={case.s2}")
def test_acceptance_and_rejection_time_of_lognormal_weights(case, rng, generator):
    chains = [independence_metropolis(case.sample(rng, LENGTH), generator) for _ in range(CHAINS)]
    value, stderr = mean_and_stderr([chain.acceptance for chain in chains])
    assert_consistent(value, stderr, case.acceptance, resolve=0.01)
    value, stderr = mean_and_stderr([chain.tau_acc for chain in chains])
    assert_consistent(value, stderr, case.tau_acc, resolve=0.5 * case.tau_acc)


def test_observable_independent_of_the_weight_has_the_rejection_time(rng, generator):
    case = LOGNORMAL[2]
    chain = independence_metropolis(case.sample(rng, 400_000), generator)
    tau = integrated_autocorrelation(rng.normal(size=400_000)[chain.index])
    assert tau.reliable
    assert_consistent(tau.tau_int, tau.stderr, case.tau_acc, resolve=0.3 * case.tau_acc)


def test_chain_agrees_with_the_estimates_from_weights_alone(rng, generator):
    log_w = LOGNORMAL[2].sample(rng, 200_000)
    chain = independence_metropolis(log_w, generator)
    assert chain.acceptance == pytest.approx(acceptance_rate(log_w), abs=0.01)
    assert chain.tau_acc == pytest.approx(rejection_tau(log_w), rel=0.05)


def skewed_mean(generator, sign: float) -> tuple[float, float]:
    """Proposals N(0, 1), target N(1/2, 1): the chain's mean of x and its error."""
    x = torch.randn(200_000, generator=generator, dtype=torch.float64)
    chain = independence_metropolis(sign * 0.5 * x, generator)
    series = x[chain.index]
    g = integrated_autocorrelation(series).g
    return float(series.mean()), math.sqrt(g * float(series.var()) / series.numel())


def test_samples_the_target(generator):
    assert_consistent(*skewed_mean(generator, 1.0), 0.5, resolve=0.05)


def test_wrong_sign_of_the_weights_is_caught(generator):
    with pytest.raises(AssertionError, match="z ="):
        assert_consistent(*skewed_mean(generator, -1.0), 0.5, resolve=0.05)


def test_equal_weights_accept_everything(generator):
    chain = independence_metropolis(torch.full((50,), 1e5, dtype=torch.float64), generator)
    assert chain.index.tolist() == list(range(50))
    assert (chain.acceptance, chain.tau_acc, chain.longest_rejection) == (1.0, 0.5, 0)


def test_first_proposal_is_not_counted(generator):
    chain = independence_metropolis([0.0, -1e5, -1e5, -1e5, -1e5], generator)
    assert chain.index.tolist() == [0] * 5
    assert chain.accepted.tolist() == [True, False, False, False, False]
    assert (chain.acceptance, chain.longest_rejection) == (0.0, 4)
    assert chain.tau_acc == pytest.approx(4.5)  # rho(t) = 1 for the four lags there are


def test_weight_zero_is_left_at_once_and_never_entered(generator):
    zero = -math.inf
    chain = independence_metropolis([zero, zero, 0.0, zero, -1e5, 0.0], generator)
    assert chain.index.tolist() == [0, 1, 2, 2, 2, 5]


def test_same_generator_same_chain(rng):
    log_w = LOGNORMAL[3].sample(rng, 1000)
    chains = [independence_metropolis(log_w, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(chains[0].index, chains[1].index)


@pytest.mark.parametrize(
    "log_w", [[0.0], [], [0.0, math.nan], [0.0, math.inf], [-math.inf, -math.inf]]
)
def test_bad_weights_raise(log_w, generator):
    with pytest.raises(InputError, match=r"^log_w: expected"):
        independence_metropolis(log_w, generator)
