"""Local couplings: symmetries, and the same map at another size."""

import pytest
import torch

from bijector_cases import graph_of, local, of_zero_mean
from helmflow.bijectors.local_coupling import LocalCouplings, local_couplings
from helmflow.errors import InputError
from helmflow.manifolds.symmetry import crystal_symmetry
from helmflow.system import load_system


def displacements(f, n=4):
    return of_zero_mean(f.n_sites, 0.1)(n)


def test_uniform_translations_do_nothing():
    f = local("lennard_jones/fcc_32")
    u = displacements(f)
    shift = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64).repeat(f.n_sites)
    (y, log_det), (z, same) = f.forward(u), f.forward(u + shift)
    assert y.view(4, -1, 3).mean(1).abs().max() < 1e-14
    assert torch.allclose(y, z, atol=1e-12)
    assert torch.allclose(log_det, same, atol=1e-11)


@pytest.mark.parametrize("name", ["lennard_jones/fcc_32", "ice/mw_cubic_8"])
def test_translations_of_the_lattice_commute(name):
    """Sites of one colour share a network: moving all labels by a cell moves the result."""
    system = load_system(name)
    f, sites = local(name), system.reference_positions
    cell = crystal_symmetry(sites.numpy(), system.cell.numpy(), system.species).cells
    step = system.cell[0] / cell.shape[0]
    gap = (sites[:, None] + step - sites) @ torch.linalg.inv(system.cell)
    image = (gap - gap.round()).norm(dim=2).argmin(1)
    u = displacements(f).view(4, -1, 3)
    moved = torch.empty_like(u)
    moved[:, image] = u
    y, log_det = f.forward(u.flatten(1))
    z, same = f.forward(moved.flatten(1))
    assert torch.allclose(z.view(4, -1, 3)[:, image], y.view(4, -1, 3), atol=1e-12)
    assert torch.allclose(log_det, same, atol=1e-11)


def test_identity_at_first_and_every_weight_learns():
    f = local_couplings(graph_of("lennard_jones/fcc_32"), scale=0.1)
    u = displacements(f)
    y, log_det = f.forward(u)
    assert (y - u).abs().max() < 1e-15
    assert log_det.abs().max() < 1e-14
    f = local("lennard_jones/fcc_32", n_sweeps=2)
    y, log_det = f.forward(u)
    (y.square().sum() + log_det.sum()).backward()
    assert all(p.grad.abs().max() > 0 for p in f.parameters())


def test_a_periodic_configuration_is_mapped_alike_at_any_size():
    """A repeated small crystal: displacements repeat, the log-determinant is per cell."""
    small, large = (load_system(f"lennard_jones/fcc_{n}") for n in (32, 256))
    f = local("lennard_jones/fcc_32")
    g = f.moved_to(graph_of("lennard_jones/fcc_256"))
    gap = large.reference_positions[:, None] - small.reference_positions
    gap = gap @ torch.linalg.inv(small.cell)
    origin = (gap - gap.round()).norm(dim=2).argmin(1)
    u = displacements(f).view(4, -1, 3)
    y, log_det = f.forward(u.flatten(1))
    z, larger = g.forward(u[:, origin].flatten(1))
    assert torch.allclose(z.view(4, -1, 3), y.view(4, -1, 3)[:, origin], atol=1e-10)
    assert torch.allclose(larger, 8 * log_det, atol=1e-9)
    assert [n for n, _ in f.state_dict().items()] == [n for n, _ in g.state_dict().items()]


def test_another_crystal_is_refused():
    f = local("lennard_jones/fcc_32")
    with pytest.raises(InputError, match="other surroundings"):
        f.moved_to(graph_of("ice/mw_cubic_8"))
    graph = graph_of("lennard_jones/fcc_32")
    with pytest.raises(InputError, match="multiple of 4"):
        LocalCouplings(graph, list(f.networks)[:3], 0.1)
