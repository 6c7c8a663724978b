import math

import pytest
import torch

from helmflow.energies.phi4 import Phi4
from helmflow.errors import InputError


def random_fields(shape, batch=7, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 2), (3, 4), (8, 8)])
def test_action_is_the_sum_over_links_and_sites(shape):
    energy = Phi4(shape, mass_squared=-4.0, coupling=8.0)
    for phi, action in zip(random_fields(shape), energy(random_fields(shape)), strict=True):
        total = 0.0
        for i in range(shape[0]):
            for j in range(shape[1]):
                here = phi[i, j].item()
                right, up = phi[i, (j + 1) % shape[1]].item(), phi[(i + 1) % shape[0], j].item()
                total += (right - here) ** 2 + (up - here) ** 2 - 4.0 * here**2 + 8.0 * here**4
        assert action.item() == pytest.approx(total, rel=1e-12)


def test_gradient_is_that_of_autograd_and_leaves_no_graph():
    energy = Phi4((4, 6), mass_squared=-4.0, coupling=5.113)
    x = random_fields((4, 6)).requires_grad_()
    value = energy(x)
    (expected,) = torch.autograd.grad(value.sum(), x)
    action, gradient = energy.energy_and_gradient(x)
    torch.testing.assert_close(action, value.detach(), rtol=1e-13, atol=0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)
    assert not action.requires_grad
    assert not gradient.requires_grad


def test_second_derivatives_are_finite_differences_of_the_gradient():
    energy = Phi4((2, 3), mass_squared=1.0, coupling=1.0)
    x = random_fields((2, 3), batch=1)
    hessian = torch.autograd.functional.hessian(lambda phi: energy(phi).sum(), x).reshape(6, 6)
    h = 1e-5
    for i, direction in enumerate(torch.eye(6, dtype=torch.float64).reshape(6, 1, 2, 3)):
        above = energy.energy_and_gradient(x + h * direction)[1]
        below = energy.energy_and_gradient(x - h * direction)[1]
        torch.testing.assert_close(
            hessian[i], ((above - below) / (2 * h)).ravel(), rtol=1e-8, atol=1e-8
        )


def test_symmetries():
    energy = Phi4((4, 4), mass_squared=-4.0, coupling=8.0)
    x = random_fields((4, 4))
    for image in (-x, torch.roll(x, (1, 2), dims=(1, 2)), x.transpose(1, 2), x.flip(1)):
        torch.testing.assert_close(energy(image), energy(x), rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(
    ("mass_squared", "coupling", "log_z", "phi_squared"),
    [(-4.0, 8.0, 0.91443398, 0.171434)],
)
def test_partition_function_of_the_smallest_lattice(mass_squared, coupling, log_z, phi_squared):
    """The trapezoid rule in four dimensions reproduces the transfer-matrix value, 2 x 2 sites."""
    nodes = torch.linspace(-1.8, 1.8, 30, dtype=torch.float64)
    spacing = (nodes[1] - nodes[0]).item()
    x = torch.cartesian_prod(nodes, nodes, nodes, nodes).reshape(-1, 2, 2)
    log_weight = -Phi4((2, 2), mass_squared=mass_squared, coupling=coupling)(x)
    found = torch.logsumexp(log_weight, dim=0).item() + 4.0 * math.log(spacing)
    assert found == pytest.approx(log_z, abs=2e-8)
    mean = (log_weight.softmax(0) * x[:, 0, 0].square()).sum().item()
    assert mean == pytest.approx(phi_squared, abs=1e-6)


def gauss_nodes(n):
    """Nodes and weights for exp(-8 phi^4), by the Lanczos recursion on a fine grid."""
    grid = torch.linspace(-2.0, 2.0, 2001, dtype=torch.float64)
    weight = torch.exp(-8.0 * grid**4) * (grid[1] - grid[0])
    norm = weight.sum()
    previous, current = torch.zeros_like(grid), weight.sqrt() / norm.sqrt()
    off_diagonal = []
    for _ in range(n - 1):
        following = grid * current - (off_diagonal[-1] if off_diagonal else 0.0) * previous
        off_diagonal.append(following.norm())
        previous, current = current, following / off_diagonal[-1]
    jacobi = torch.diag(torch.stack(off_diagonal), 1)
    nodes, vectors = torch.linalg.eigh(jacobi + jacobi.T)
    return nodes, norm * vectors[0].square()


def test_partition_function_of_the_shipped_four_by_four_lattice():
    """Row transfer matrix: Z = Tr T^4, T over the 4 sites of a row, m^2 = -4, lambda = 8."""
    nodes, weights = gauss_nodes(7)
    rows = torch.cartesian_prod(*[nodes] * 4)
    site = torch.cartesian_prod(*[weights.log()] * 4).sum(1)
    half = 0.5 * site + (rows * rows.roll(1, 1)).sum(1)
    step = torch.exp(2.0 * rows @ rows.T + half[:, None] + half[None])
    twice = step @ step
    found = math.log((twice * twice.T).sum().item())
    assert found == pytest.approx(2.40513896, abs=1e-7)


@pytest.mark.parametrize(
    ("mass_squared", "coupling", "field"),
    [(1.0, -0.1, "potential.coupling"), (-1.0, 0.0, "potential.mass_squared")],
)
def test_no_partition_function_is_refused(mass_squared, coupling, field):
    with pytest.raises(InputError, match=field):
        Phi4((4, 4), mass_squared=mass_squared, coupling=coupling)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 5), (3, 16)])
def test_fields_of_another_shape_are_refused(shape):
    energy = Phi4((4, 6), mass_squared=1.0, coupling=1.0)
    for evaluate in (energy, energy.energy_and_gradient):
        with pytest.raises(InputError, match=r"x: expected shape \(batch, 4, 6\)"):
            evaluate(torch.zeros(shape, dtype=torch.float64))
