"""Whether a ladder has enough nodes, and how many a finer one gets."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import helmflow as hf
from helmflow.energies.phi4 import Phi4
from helmflow.errors import EnergyError
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


class NowAndThen(Phi4):
    """phi^4 of which one energy in 100 is far too low: who holds one does not move any more."""

    def energy_and_gradient(self, x):
        value, slope = super().energy_and_gradient(x)
        value = value.clone()
        if len(x) > 40:  # not in the trial before the first sweep
            value[torch.rand(len(x), generator=self.generator) < 0.01] -= 100.0
        return value, slope


def test_chains_that_hold_an_energy_that_is_not_theirs_are_told():
    known = hf.load_system("lattice/phi4_4")
    energy = NowAndThen((4, 4), mass_squared=1.0, coupling=1.0)
    energy.generator = torch.Generator().manual_seed(0)
    system = replace(known, energy=energy, references=())
    with pytest.raises(EnergyError, match="not the same in every call"):
        hf.free_energy(system, seed=0)
