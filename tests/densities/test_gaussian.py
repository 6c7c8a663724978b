"""Normal densities by their precision: against torch, without translations, by waves."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from assertions import assert_consistent
from helmflow.densities.gaussian import Gaussian
from helmflow.errors import InputError
from helmflow.manifolds.symmetry import lattice_symmetry


def random_precision(n, generator):
    a = torch.randn(n, n, generator=generator, dtype=torch.float64)
    return a @ a.T + n * torch.eye(n, dtype=torch.float64)


def springs(sites, d, generator):
    """Random springs between all pairs of sites: a precision with exactly d zero modes."""
    n = sites * d
    k = torch.zeros(n, n, dtype=torch.float64)
    for i in range(sites):
        for j in range(i):
            link = random_precision(d, generator)
            rows, columns = slice(i * d, i * d + d), slice(j * d, j * d + d)
            k[rows, rows] += link
            k[columns, columns] += link
            k[rows, columns] -= link
            k[columns, rows] -= link.T
    return k


def translation_invariant(shape, generator):
    """A random positive matrix that commutes with the translations of a lattice."""
    symmetry = lattice_symmetry(shape)
    n = shape[0] * shape[1]
    total = torch.zeros(n, n, dtype=torch.float64)
    a = random_precision(n, generator)
    for image in torch.from_numpy(symmetry.translations):
        total += a[image][:, image]
    return total / n, symmetry.cells


def test_it_is_the_multivariate_normal(generator):
    precision = random_precision(7, generator)
    base = Gaussian(precision)
    other = MultivariateNormal(torch.zeros(7, dtype=torch.float64), precision_matrix=precision)
    u, log_prob = base.sample_and_log_prob(50, generator)
    torch.testing.assert_close(log_prob, other.log_prob(u))
    torch.testing.assert_close(base.log_prob(u), log_prob)
    torch.testing.assert_close(base.covariance, other.covariance_matrix)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_without_translations_it_is_the_product_over_real_modes(generator, d):
    precision = springs(5, d, generator)
    base = Gaussian(precision, n_translations=d)
    values, vectors = torch.linalg.eigh(precision)
    assert values[d - 1] < 1e-10 < values[d]
    assert base.dim == 4 * d
    expected = 0.5 * base.dim * math.log(2 * math.pi) - 0.5 * values[d:].log().sum().item()
    assert base.log_normalizer == pytest.approx(expected, abs=1e-11)
    modes = vectors[:, d:]
    torch.testing.assert_close(base.covariance, modes / values[d:] @ modes.T)
    u = base.sample(20, generator)
    assert u.view(20, 5, d).mean(1).abs().max() < 1e-14
    expected_log = -0.5 * (u @ precision * u).sum(1) - base.log_normalizer
    torch.testing.assert_close(base.log_prob(u), expected_log)


def test_a_uniform_displacement_does_not_change_the_density(generator):
    base = Gaussian(springs(4, 3, generator), n_translations=3)
    u = base.sample(5, generator)
    shift = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64).repeat(4)
    torch.testing.assert_close(base.log_prob(u + shift), base.log_prob(u))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 3), (4, 4), (5, 4)])
def test_wave_vectors_and_the_whole_matrix_give_the_same_density(generator, shape):
    precision, cells = translation_invariant(shape, generator)
    by_wave, whole = Gaussian(precision, cells=cells), Gaussian(precision)
    assert by_wave.log_normalizer == pytest.approx(whole.log_normalizer, abs=1e-11)
    torch.testing.assert_close(by_wave.covariance, whole.covariance)
    u = whole.sample(9, generator)
    torch.testing.assert_close(by_wave.log_prob(u), whole.log_prob(u))


@pytest.mark.parametrize("n_translations", [0, 2])
def test_colour_whiten_pull_and_force_belong_together(generator, n_translations):
    precision = springs(6, 2, generator)
    if not n_translations:
        precision += torch.eye(12, dtype=torch.float64)
    base = Gaussian(precision, n_translations=n_translations)
    z = base.noise(8, generator)
    u = base.colour(z)
    torch.testing.assert_close(base.whiten(u), z)
    torch.testing.assert_close(base.force(z), u @ precision)
    torch.testing.assert_close(0.5 * z.square().sum(1), 0.5 * (u @ precision * u).sum(1))
    gradient = torch.randn(8, 12, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(base.colour(base.pull(gradient)), gradient @ base.covariance)
    # pull is the transpose of colour: <g, colour(z)> = <pull(g), z>
    torch.testing.assert_close((gradient * u).sum(1), (base.pull(gradient) * z).sum(1))


def test_an_empty_batch_is_no_mistake(generator):
    precision, cells = translation_invariant((3, 4), generator)
    base = Gaussian(precision, cells=cells)
    nothing = torch.empty(0, 12, dtype=torch.float64)
    assert base.colour(nothing).shape == base.whiten(nothing).shape == (0, 12)


def test_draws_have_the_covariance(generator):
    precision, cells = translation_invariant((2, 3), generator)
    springy = Gaussian(springs(3, 2, generator), n_translations=2)
    for base in (Gaussian(precision, cells=cells), springy):
        u = base.sample(100_000, generator)
        products = torch.einsum("bi,bj->bij", u, u)
        error = products.std(0) / math.sqrt(len(u))
        z = (products.mean(0) - base.covariance) / error
        assert z.abs().max() < 5, f"z = {z.abs().max():.1f}"
        assert 5 * error.max() < 0.1 * base.covariance.diagonal().min()


def test_free_energy_by_perturbation_between_two_gaussians(generator):
    """The normalisers of two densities against the mean of their Boltzmann factors."""
    a = Gaussian(springs(4, 3, generator), n_translations=3)
    b = Gaussian(1.2 * a.precision, n_translations=3)
    assert a.log_normalizer - b.log_normalizer == pytest.approx(4.5 * math.log(1.2))
    u = a.sample(100_000, generator)
    factor = (-0.1 * (u @ a.precision * u).sum(1)).exp()
    value, stderr = factor.mean().item(), factor.std().item() / math.sqrt(len(u))
    truth = math.exp(b.log_normalizer - a.log_normalizer)
    assert_consistent(value, stderr, truth, resolve=0.01)


def test_imaginary_modes_are_counted_and_located():
    precision = torch.diag(torch.tensor([1.0, 2.0, -3.0, -0.5], dtype=torch.float64))
    with pytest.raises(InputError) as refusal:
        Gaussian(precision)
    message = str(refusal.value)
    assert message.startswith("structure: expected ")
    assert "2 imaginary mode(s)" in message
    assert "-3" in message
    assert "site 2" in message


def test_a_drifting_mode_besides_the_translations_is_refused(generator):
    """Two clusters without a bond between them: one relative translation costs nothing."""
    pair = springs(2, 3, generator)
    precision = torch.block_diag(pair, pair)
    with pytest.raises(InputError):
        Gaussian(precision, n_translations=3)


def test_one_site_without_translations_is_nothing_at_all():
    base = Gaussian(torch.zeros(3, 3, dtype=torch.float64), n_translations=3)
    assert base.dim == 0
    assert base.log_normalizer == 0.0
    u = base.sample(4, torch.Generator())
    np.testing.assert_array_equal(u.numpy(), np.zeros((4, 3)))
