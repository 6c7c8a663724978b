"""Whether a ladder has enough nodes, and how many a finer one gets."""

import numpy as np
import pytest

from helmflow.estimators.nodes import Ladder, Nodes
from helmflow.families.path.analysis import too_coarse
from helmflow.families.path.plan import GAP, NODES, finer


def springs(rng, nodes, stiffness):
    """u_A = x^2/2, u_B = k x^2/2 at Lobatto nodes."""
    ladder = Ladder.lobatto(nodes)
    scale = 1.0 / np.sqrt(1.0 + ladder.lam * (stiffness - 1.0))
    work = [0.5 * (stiffness - 1.0) * (s * rng.normal(size=(50, 40))) ** 2 for s in scale]
    return Nodes(ladder.lam, ladder.weight, work, None)


def test_too_coarse_is_what_costs_more_than_the_error_asked_for(rng):
    assert too_coarse(springs(rng, 5, 300.0), goal=0.05)
    assert not too_coarse(springs(rng, 5, 300.0), goal=50.0)
    assert not too_coarse(springs(rng, 5, 2.0), goal=0.005)
    assert not too_coarse(springs(rng, 2, 300.0), goal=0.05)  # no integral


@pytest.mark.parametrize("stiffness", [2.0, 30.0, 3000.0])
def test_a_finer_ladder_has_nodes_where_the_work_fluctuates(rng, stiffness):
    samples = springs(rng, 5, stiffness)
    n_nodes = finer(samples)
    assert 9 <= n_nodes <= NODES[1]
    if n_nodes < NODES[1]:
        lam = Ladder.lobatto(n_nodes).lam
        middle = 0.5 * (lam[1:] + lam[:-1])
        spread = np.interp(middle, samples.lam, [w.std() for w in samples.work])
        assert (np.diff(lam) * spread).max() <= GAP
    assert finer(springs(rng, 20, stiffness)) == NODES[1]
