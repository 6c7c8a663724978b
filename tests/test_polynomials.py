import numpy as np

from helmflow.polynomials import legendre, monomials


def test_legendre_polynomials_of_the_path():
    lam = np.array([0.0, 0.3, 1.0])
    z = 2.0 * lam - 1.0
    expected = np.stack([np.ones(3), z, 1.5 * z**2 - 0.5, 2.5 * z**3 - 1.5 * z], 1)
    np.testing.assert_allclose(legendre(lam, 4), expected, atol=1e-14)
    np.testing.assert_array_equal(legendre(0.3, 4), legendre(lam, 4)[1])
    assert legendre(0.7, 1).tolist() == [1.0]


def test_monomials():
    assert monomials(0.0, 3).tolist() == [1.0, 0.0, 0.0]
    assert monomials(np.array([0.5, 1.0]), 3).tolist() == [[1.0, 0.5, 0.25], [1.0, 1.0, 1.0]]
