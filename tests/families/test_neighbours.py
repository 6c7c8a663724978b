"""Which angles an energy couples, and the conditionals of the order found from that."""

import math

import pytest
import torch

from helmflow.energies.torus import TorusCosines, XYRing
from helmflow.families.density.neighbours import elimination, interactions
from helmflow.manifolds.torus import Torus
from helmflow.streams import stream
from helmflow.system import load_system


def graph(n, pairs):
    coupled = torch.zeros(n, n, dtype=torch.bool)
    for i, j in pairs:
        coupled[i, j] = coupled[j, i] = True
    return coupled


def test_a_chain_a_ring_and_all():
    chain = load_system("toy/sines_10")
    found = interactions(chain.manifold, chain.reduced_potential, stream(0, "pairs"))
    assert torch.equal(found, graph(10, [(k, k + 1) for k in range(9)]))
    ring = interactions(Torus(6), XYRing(6, 1.0), stream(0, "pairs"))
    assert torch.equal(ring, graph(6, [(k, (k + 1) % 6) for k in range(6)]))
    arm = load_system("torus/planar_arm_6")
    assert interactions(arm.manifold, arm.reduced_potential, stream(0, "pairs")).sum() == 30


def test_high_energies_and_infinite_ones():
    """Rounding of 10^9 kT is no coupling; a wall may be one."""
    single = TorusCosines([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [1e9, 1e9, 1e9], [0.0, 0.0, 0.0])
    assert not interactions(Torus(3), single, stream(0, "pairs")).any()

    def walled(x):
        return torch.where((x[:, 0] - x[:, 1]).abs() > 0.2, math.inf, x[:, 2].cos())

    assert interactions(Torus(3), walled, stream(0, "pairs"))[0, 1]


def test_conditionals_of_a_ring():
    order, seen = elimination(graph(5, [(k, (k + 1) % 5) for k in range(5)]))
    assert order == [0, 1, 2, 3, 4]
    assert seen == [[], [0], [0, 1], [0, 2], [0, 3]]


@pytest.mark.parametrize("seed", range(5))
def test_the_product_of_conditionals_is_the_density(seed):
    """Binary variables with random couplings: p(x_k | all before) is p(x_k | seen)."""
    n, generator = 6, stream(seed, "graph")
    draw = torch.randn(n, n, generator=generator, dtype=torch.float64).triu(1)
    coupled = (torch.rand(n, n, generator=generator) < 0.3).triu(1)
    order, seen = elimination(coupled | coupled.T)
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * n)
    energy = torch.einsum("si,ij,sj->s", states, draw * coupled, states)
    p = torch.softmax(-energy, 0).reshape([2] * n)
    product = torch.ones_like(p)
    for k in order:
        rest = [j for j in range(n) if j != k and j not in seen[k]]
        joint = p.sum(rest, keepdim=True) if rest else p
        product = product * joint / joint.sum(k, keepdim=True)
    torch.testing.assert_close(product, p, rtol=0, atol=1e-14)
    for k, place in enumerate(order):
        assert set(seen[place]) <= set(order[:k])
