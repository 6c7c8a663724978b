import pytest
import torch

from helmflow.samplers.leapfrog import LeapfrogChains

STIFFNESS = torch.tensor([1.0, 4.0], dtype=torch.float64)


def skewed(x):
    """exp(-u) with u = k x^2/2 + x^3 exp(-x^2): asymmetric, so that a wrong sign shows."""
    bump = x**3 * torch.exp(-(x**2))
    slope = (3.0 * x**2 - 2.0 * x**4) * torch.exp(-(x**2))
    return (0.5 * STIFFNESS * x**2 + bump).sum(1), STIFFNESS * x + slope


def exact_moments():
    grid = torch.linspace(-9.0, 9.0, 20001, dtype=torch.float64)[:, None].repeat(1, 2)
    bump = grid**3 * torch.exp(-(grid**2))
    weight = torch.exp(-(0.5 * STIFFNESS * grid**2 + bump))
    weight = weight / weight.sum(0)
    return (weight * grid).sum(0), (weight * grid**2).sum(0)


def chains(n=4000, step=0.45, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((n, 2), generator=generator, dtype=torch.float64)
    return LeapfrogChains(x, skewed, step=step, n_steps=5, generator=generator)


def test_moments_of_an_asymmetric_well():
    made = chains()
    made.run(40)
    assert 0.5 < made.accepted / made.proposed < 0.98
    first, second = exact_moments()
    for power, exact in ((1, first), (2, second)):
        found = made.x**power
        z = (found.mean(0) - exact) / (found.std(0) / len(found) ** 0.5)
        assert z.abs().max() < 5.0


def test_cached_energies_are_those_of_the_positions():
    made = chains(50)
    made.run(3)
    u, gradient = skewed(made.x)
    torch.testing.assert_close(made.u, u)
    torch.testing.assert_close(made.gradient, gradient)
    assert made.n_evaluations == 50 + 3 * 5 * 50


def test_same_generator_same_chain():
    one, two = chains(20, seed=4), chains(20, seed=4)
    one.run(4)
    two.run(4)
    assert torch.equal(one.x, two.x)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_moves_into_the_impossible_are_rejected(bad):
    def wall(x):
        u, gradient = skewed(x)
        return torch.where(x[:, 0] > 0.5, bad, u), gradient

    generator = torch.Generator().manual_seed(0)
    x = torch.full((500, 2), -1.0, dtype=torch.float64)
    made = LeapfrogChains(x, wall, step=0.3, n_steps=5, generator=generator)
    made.run(20)
    assert (made.x[:, 0] <= 0.5).all()
    assert made.accepted > 1000
