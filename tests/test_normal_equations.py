"""Least squares: exact where there is a solution, harmless where columns vanish or coincide."""

import os
import subprocess
import sys

import numpy as np
import pytest

from helmflow.errors import InputError
from helmflow.normal_equations import least_squares, solve_normal_equations


@pytest.fixture
def columns(rng):
    return rng.normal(size=(60, 7))


@pytest.mark.parametrize("shape", [(7,), (7, 3)])
def test_exact_coefficients_are_recovered(columns, rng, shape):
    exact = rng.normal(size=shape)
    solution = least_squares(columns, columns @ exact)
    np.testing.assert_allclose(solution.coefficients, exact, atol=1e-12)
    assert solution.rank == 7
    assert solution.residual < 1e-12


def test_it_is_the_closest_of_all(columns, rng):
    target = rng.normal(size=60)
    found = least_squares(columns, target).coefficients
    expected = np.linalg.lstsq(columns, target)[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-9])
def test_columns_that_vanish_have_no_coefficient(columns, rng, size):
    exact = rng.normal(size=7)
    target = columns @ exact
    with_small = np.insert(columns, 3, size * rng.normal(size=60), axis=1)
    solution = least_squares(with_small, target)
    assert solution.coefficients[3] == 0.0
    assert solution.rank == 7
    np.testing.assert_allclose(np.delete(solution.coefficients, 3), exact, atol=1e-12)


def test_a_small_column_above_the_limit_is_used(columns, rng):
    exact = rng.normal(size=7)
    scale = np.array([1.0, 1e-5, 1.0, 1e2, 1.0, 1.0, 1e-3])
    solution = least_squares(columns * scale, columns @ exact)
    np.testing.assert_allclose(solution.coefficients * scale, exact, rtol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 1e-6])
def test_collinear_columns_share_what_they_explain(columns, rng, ridge):
    exact = rng.normal(size=7)
    target = columns @ exact
    twice = np.column_stack([columns, columns[:, 0], columns[:, 1] - 2.0 * columns[:, 2]])
    normal = twice.T @ twice
    solution = solve_normal_equations(normal, twice.T @ target, ridge * np.diag(normal))
    assert solution.rank == (9 if ridge else 7)
    assert solution.residual < 1e-9
    np.testing.assert_allclose(twice @ solution.coefficients, target, atol=1e-4 if ridge else 1e-9)
    assert solution.coefficients[7] == pytest.approx(solution.coefficients[0])
    assert np.abs(solution.coefficients).max() < 3.0 * np.abs(exact).max()


def test_what_no_column_explains_is_reported():
    solution = solve_normal_equations(np.zeros((2, 2)), np.ones(2))
    assert (solution.coefficients == 0.0).all()
    assert (solution.rank, solution.residual) == (0, 1.0)
    nothing = solve_normal_equations(np.zeros((0, 0)), np.zeros(0))
    assert (nothing.rank, nothing.residual) == (0, 0.0)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_order_and_units_of_columns_do_not_matter(columns, rng, ridge):
    def fitted(x):
        normal = x.T @ x
        return solve_normal_equations(normal, x.T @ target, ridge * np.diag(normal)).coefficients

    target, order = rng.normal(size=60), rng.permutation(7)
    scale = 10.0 ** rng.uniform(-3, 3, size=7)
    first = fitted(columns)
    np.testing.assert_allclose(fitted(columns[:, order]), first[order], rtol=1e-9)
    np.testing.assert_allclose(fitted(columns * scale) * scale, first, rtol=1e-9)


EXPLAINED = """
import sys
import numpy as np
from helmflow.normal_equations import solve_normal_equations
rng = np.random.default_rng(0)
for ridge, dependent in ((0.0, 0), (0.0, 40), (1e-6, 0), (1e-6, 40)):
    columns = rng.normal(size=(900, 300))
    columns[:, :dependent] = columns[:, dependent : 2 * dependent]
    target = columns @ rng.normal(size=300) + rng.normal(size=900)
    normal = columns.T @ columns
    solution = solve_normal_equations(normal, columns.T @ target, ridge * np.diag(normal))
    np.savetxt(sys.stdout, columns @ solution.coefficients)
"""


def test_the_number_of_threads_does_not_matter():
    explained = []
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", EXPLAINED]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        explained.append(np.array(done.stdout.split(), dtype=float))
    assert explained[0].size == 3600
    np.testing.assert_allclose(*explained, rtol=0.0, atol=1e-9)


def test_finite_numbers_never_fail(rng):
    """Matrices of any rank, with columns of any size, rounding and sign errors included."""
    for trial in range(200):
        n = int(rng.integers(1, 12))
        rank = int(rng.integers(0, n + 1))
        scale = 10.0 ** rng.uniform(-30, 30, size=n)
        half = rng.normal(size=(n, rank)) * scale[:, None]
        matrix = half @ half.T + (1e-17 * np.diag(scale) if trial % 3 == 0 else 0.0)
        matrix = -matrix if trial % 50 == 7 else matrix
        solution = solve_normal_equations(matrix, rng.normal(size=n) * scale)
        assert np.isfinite(solution.coefficients).all()
        assert solution.rank <= n


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_other_numbers_are_refused(wrong, place):
    terms = [np.eye(2), np.ones(2), np.zeros(2)]
    terms[place].flat[-1] = wrong
    with pytest.raises(InputError, match="least squares: expected finite numbers"):
        solve_normal_equations(*terms)
