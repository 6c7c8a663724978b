import pytest
import torch

from helmflow.errors import InputError
from helmflow.manifolds.lattice_orbits import KernelOrbits


def test_orbits_of_a_lattice_of_eight():
    """15 classes, complete: every displacement is in one, counted once or at the edge more."""
    orbits = KernelOrbits(4)
    counts = orbits.counts((8, 8))
    assert len(orbits) == 15
    assert torch.equal((counts > 0).sum(1), torch.ones(64, dtype=torch.int64))
    assert counts.sum() == 81  # all displacements of the infinite lattice within reach
    assert counts[4 * 8 + 4, orbits.labels.index((4, 4))] == 4


@pytest.mark.parametrize("shape", [(3, 3), (4, 6), (8, 8)])
def test_adjacency_is_symmetric_and_translation_invariant(shape):
    table = KernelOrbits(3).adjacency(shape)
    assert torch.equal(table, table.transpose(1, 2))
    assert torch.equal(table.sum(2), table[:, :1].sum(2).expand(-1, table.shape[1]))


def test_small_lattices_wrap_and_large_ones_are_zero_beyond_the_reach():
    orbits = KernelOrbits(4)
    assert torch.equal(orbits.counts((4, 4)).sum(), orbits.counts((12, 12)).sum())
    assert orbits.counts((12, 12)).view(12, 12, -1)[5].sum() == 0


def test_directions_can_differ():
    assert len(KernelOrbits(2, isotropic=False)) == 9
    assert len(KernelOrbits(2)) == 6


@pytest.mark.parametrize("parity", [0, 1])
def test_parity_keeps_one_colour(parity):
    assert all((a + b) % 2 == parity for a, b in KernelOrbits(3, parity=parity).labels)


def test_fit_finds_the_weights_of_a_kernel():
    orbits = KernelOrbits(2)
    weights = torch.arange(1.0, 7.0, dtype=torch.float64)
    kernel = (orbits.counts((4, 6)) @ weights).view(4, 6)
    fitted = orbits.counts((4, 6)) @ orbits.fit(kernel)
    torch.testing.assert_close(fitted.view(4, 6), kernel)


def test_a_kernel_needs_a_reach():
    with pytest.raises(InputError, match="reach: expected at least 1"):
        KernelOrbits(0)
