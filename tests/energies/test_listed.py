"""Properties that every potential on a neighbour list must have."""

import numpy as np
import pytest
import torch
from torch.autograd.functional import hessian

import crystals
from helmflow.energies.lennard_jones import LennardJones
from helmflow.energies.stillinger_weber import StillingerWeber

ENERGIES = {
    "argon": (lambda: crystals.argon(2, "all"), 0.06),
    "argon, nearest": (lambda: crystals.argon(2, "nearest"), 0.06),
    "water": (lambda: crystals.water(2), 0.2),
    "water, nearest": (lambda: crystals.water(1, "nearest"), 0.2),
    "slanted argon": (lambda: crystals.slanted(LennardJones), 0.05),
    "slanted water": (lambda: crystals.slanted(StillingerWeber), 0.05),
}


@pytest.fixture(params=ENERGIES, scope="module")
def case(request):
    build, width = ENERGIES[request.param]
    return build(), width


def draw(case, batch, generator):
    energy, width = case
    shape = (batch, energy.n_particles, 3)
    return width * torch.randn(shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("batch", [1, 7, 8, 9, 40])
def test_kernel_agrees_with_torch(case, batch, generator):
    energy, _ = case
    x = energy.reference + draw(case, batch, generator)
    leaf = x.clone().requires_grad_()
    slow = energy(leaf)
    (slow_gradient,) = torch.autograd.grad(slow.sum(), leaf)
    value, gradient = energy.energy_and_gradient(x)
    torch.testing.assert_close(value, slow.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradient, slow_gradient, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(energy(x), value, rtol=1e-14, atol=1e-12)


def test_gradient_is_the_derivative_of_the_energy(case, generator):
    energy, _ = case
    u, direction = draw(case, 2, generator).unbind(0)
    step = 1e-4 * direction
    steps = torch.stack([u - 2 * step, u - step, u + step, u + 2 * step])
    e = energy.displaced(steps, gradient=False)[0]
    slope = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / 12
    _, gradient = energy.displaced(u.unsqueeze(0))
    assert float((gradient * step).sum()) == pytest.approx(float(slope), rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("kind", [LennardJones, StillingerWeber])
def test_small_slanted_cell_agrees_with_a_sum_over_images(kind, generator):
    energy = crystals.slanted(kind)
    u = draw((energy, 0.03), 3, generator)
    expected = [crystals.brute_force(energy, energy.reference + row) for row in u]
    assert energy.displaced(u)[0].tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("build", [lambda: crystals.argon(3, "all"), lambda: crystals.water(2)])
def test_rows_beyond_the_skin_are_exact(build, generator):
    energy = build()
    u = draw((energy, 0.2 * energy.skin), 6, generator)
    outside = energy._outside(u.square().sum(-1).amax(-1).numpy())
    assert 0 < len(outside)
    value, gradient = energy.displaced(u)
    expected = [crystals.brute_force(energy, energy.reference + row) for row in u]
    assert value.tolist() == pytest.approx(expected, rel=1e-11)
    leaf = (energy.reference + u).requires_grad_()
    (slow,) = torch.autograd.grad(energy(leaf).sum(), leaf)
    # Atoms that nearly touch push with forces of any size.
    assert ((gradient - slow).abs().amax((1, 2)) < 1e-11 * slow.abs().amax((1, 2))).all()


def test_the_skin_matters(generator, monkeypatch):
    energy = crystals.argon(3, "all")
    u = torch.zeros(1, energy.n_particles, 3, dtype=torch.float64)
    # One atom moved onto a lattice vector further: all its neighbours are new ones.
    u[0, 0] = energy.cell.matrix[0] / 3 + 0.02
    u[0, 1:] += 0.01
    right = float(energy.displaced(u)[0])
    assert right == pytest.approx(crystals.brute_force(energy, energy.reference + u[0]), rel=1e-12)
    monkeypatch.setattr(energy, "_outside", lambda extent: [])
    assert abs(float(energy.displaced(u)[0]) - right) > 1.0


def test_pairs_inside_are_found_up_to_the_very_edge_of_the_skin(generator):
    # Displacements of one length, in all directions: as far as the list must reach.
    energy = crystals.argon(3, "all")
    u = draw((energy, 1.0), 16, generator)
    u *= 0.4999 * energy.skin / u.norm(dim=-1, keepdim=True)
    assert energy._outside(u.square().sum(-1).amax(-1).numpy()) == []
    expected = [crystals.brute_force(energy, energy.reference + row) for row in u]
    assert energy.displaced(u)[0].tolist() == pytest.approx(expected, rel=1e-11)


def test_energy_and_gradient_ignore_images_and_translations(case, generator):
    energy, _ = case
    u = draw(case, 3, generator)
    x = energy.reference + u
    moved = x + torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
    moved[:, 0] += 2 * energy.cell.matrix[0] - energy.cell.matrix[2]
    value, gradient = energy.energy_and_gradient(x)
    again, gradient_again = energy.energy_and_gradient(moved)
    torch.testing.assert_close(again, value, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(gradient_again, gradient, rtol=1e-8, atol=1e-7)


def test_bad_rows_are_nan_and_leave_the_others_alone(case, generator):
    energy, _ = case
    u = draw(case, 11, generator)
    covariance = torch.eye(3 * energy.n_particles, dtype=torch.float64)
    value, gradient = energy.displaced(u)
    trace = energy.hessian_trace(u, covariance)
    bad = u.clone()
    bad[2, 1, 0] = torch.nan
    bad[4, 0, 2] = torch.inf
    bad[5, 2, 1] = 1e200
    bad[9, 1, 1] = -1e30
    good = [0, 1, 3, 6, 7, 8, 10]
    value_bad, gradient_bad = energy.displaced(bad)
    trace_bad = energy.hessian_trace(bad, covariance)
    assert value_bad[[2, 4, 5, 9]].isnan().all()
    assert gradient_bad[[2, 4, 5, 9]].isnan().all()
    assert trace_bad[[2, 4, 5, 9]].isnan().all()
    torch.testing.assert_close(value_bad[good], value[good], rtol=1e-13, atol=1e-12)
    torch.testing.assert_close(gradient_bad[good], gradient[good], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(trace_bad[good], trace[good], rtol=1e-11, atol=1e-11)


def test_bad_rows_are_nan_where_gradients_are_wanted(generator):
    energy = crystals.argon(3, "all")
    x = energy.reference + draw((energy, 0.05), 3, generator)
    x[1, 4, 0] = torch.nan
    value = energy(x.requires_grad_())
    assert value.isnan().tolist() == [False, True, False]


def test_any_number_of_threads_gives_the_same_bits(case, generator):
    energy, _ = case
    u = draw(case, 61, generator)
    covariance = torch.eye(3 * energy.n_particles, dtype=torch.float64)
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            results.append((*energy.displaced(u), energy.hessian_trace(u, covariance)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_energy_alone_is_the_energy_with_the_gradient(case, generator):
    energy, _ = case
    u = draw(case, 9, generator)
    alone, nothing = energy.displaced(u, gradient=False)
    assert nothing is None
    torch.testing.assert_close(alone, energy.displaced(u)[0], rtol=1e-14, atol=1e-12)


def test_hessian_trace_agrees_with_automatic_differentiation(case, generator):
    energy, _ = case
    u = draw(case, 9, generator)
    # A row far outside the skin, for lists that have one.
    u[4] *= 5
    size = 3 * energy.n_particles
    root = torch.randn(size, size, dtype=torch.float64, generator=generator)
    covariance = root @ root.T
    trace = energy.hessian_trace(u, covariance)
    for b in (0, 4):
        # Mean displacements cost nothing: the Hessian of forward has lost them.
        h = hessian(lambda v: energy(v.reshape(1, -1, 3))[0], (energy.reference + u[b]).flatten())
        assert float(trace[b]) == pytest.approx(float((h * covariance).sum()), rel=1e-9)


def test_hessian_trace_agrees_with_differences_of_gradients(generator):
    energy = crystals.water(2)
    size = 3 * energy.n_particles
    u = draw((energy, 0.15), 2, generator)
    steps = 1e-4 * torch.randn(40, size, dtype=torch.float64, generator=generator)
    covariance = steps.T @ steps
    v = steps.reshape(-1, energy.n_particles, 3)
    for row, trace in zip(u, energy.hessian_trace(u, covariance), strict=True):
        _, up = energy.displaced(row + v)
        _, down = energy.displaced(row - v)
        differences = ((up - down) * v).sum() / 2
        assert float(trace) == pytest.approx(float(differences), rel=1e-6)


def test_energies_are_twice_differentiable_in_single_precision(generator):
    energy = crystals.argon(2, "all")
    x = (energy.reference + draw((energy, 0.05), 2, generator)).float().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert gradient.dtype == second.dtype == torch.float32
    assert second.isfinite().all()


def test_an_empty_batch_is_empty(case):
    energy, _ = case
    value, gradient = energy.displaced(torch.empty(0, energy.n_particles, 3).double())
    assert value.shape == (0,)
    assert gradient.shape == (0, energy.n_particles, 3)


def test_coincident_atoms_never_give_a_finite_energy():
    energy = crystals.argon(3, "all")
    u = torch.zeros(1, energy.n_particles, 3, dtype=torch.float64)
    u[0, 0] = energy.reference[1] - energy.reference[0]
    assert not np.isfinite(energy.displaced(u)[0].numpy()).any()
