"""Symmetry groups: their orders, and averages of matrices over them."""

from itertools import product

import numpy as np
import pytest

from helmflow.errors import InputError
from helmflow.manifolds.symmetry import SymmetryGroup, crystal_symmetry, lattice_symmetry
from structures import structures

ORDERS = [
    ("ice/mw_cubic_64", 1536),
    ("ice/mw_hexagonal_64", 128),
    ("lennard_jones/fcc_108", 5184),
    ("silicon/diamond_64", 1536),
]


def crystal(name):
    lattice = structures()[name]
    positions, cell = lattice.positions(), np.diag(lattice.edges)
    species = (lattice.symbol,) * len(positions)
    return positions, cell, crystal_symmetry(positions, cell, species)


def operations(group):
    """Every operation as a signed permutation-and-rotation matrix (n d, n d)."""
    n, d = group.translations.shape[1], group.rotations.shape[1]
    for image, (rotation, permutation) in product(
        group.translations, zip(group.rotations, group.permutations, strict=True)
    ):
        matrix = np.zeros((n, d, n, d))
        for site in range(n):
            matrix[image[permutation[site]], :, site, :] = rotation
        yield matrix.reshape(n * d, n * d)


@pytest.mark.parametrize(("name", "order"), ORDERS)
def test_order_of_the_space_group(name, order):
    assert crystal(name)[2].order == order


@pytest.mark.parametrize(("shape", "order"), [((4, 4), 128), ((3, 5), 60), ((2, 2), 32)])
def test_order_of_a_lattice(shape, order):
    assert lattice_symmetry(shape).order == order


@pytest.mark.parametrize("name", ["ice/mw_hexagonal_64", "lennard_jones/fcc_108"])
def test_operations_move_atoms_onto_atoms(name):
    positions, cell, group = crystal(name)
    for rotation, permutation in zip(group.rotations, group.permutations, strict=True):
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        moved = (positions - positions[0]) @ rotation.T
        landed = positions[permutation] - positions[permutation[0]]
        gap = np.linalg.solve(cell.T, (moved - landed).T)
        assert np.abs(gap - np.rint(gap)).max() < 1e-9


GROUPS = {
    "fcc_32": lambda: crystal("lennard_jones/fcc_32")[2],
    "cubic_8": lambda: crystal("ice/mw_cubic_8")[2],
    "lattice": lambda: lattice_symmetry((3, 4)),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_average_is_the_mean_over_all_operations(name, rng):
    """The split into translations and cosets against the plain double sum."""
    group = GROUPS[name]()
    n = group.translations.shape[1] * group.rotations.shape[1]
    matrix = rng.normal(size=(n, n))
    matrix += matrix.T
    plain = sum(g @ matrix @ g.T for g in operations(group)) / group.order
    np.testing.assert_allclose(group.average(matrix), plain, atol=1e-12)


@pytest.mark.parametrize("name", GROUPS)
def test_the_average_is_an_invariant_projection(name, rng):
    group = GROUPS[name]()
    n = group.translations.shape[1] * group.rotations.shape[1]
    once = group.average(rng.normal(size=(n, n)))
    np.testing.assert_allclose(group.average(once), once, atol=1e-13)
    np.testing.assert_array_equal(once, once.T)
    for operation in list(operations(group))[:: max(group.order // 24, 1)]:
        np.testing.assert_allclose(operation @ once @ operation.T, once, atol=1e-12)


def test_representatives_reach_every_site():
    for make in GROUPS.values():
        group = make()
        reached = {
            int(image[permutation[site]])
            for site in group.representatives()
            for image in group.translations
            for permutation in group.permutations
        }
        assert reached == set(range(group.translations.shape[1]))
    assert len(crystal("ice/mw_hexagonal_64")[2].representatives()) == 1


def test_expand_wants_a_row_of_every_orbit():
    group = lattice_symmetry((2, 2))
    with pytest.raises(InputError, match="rows: expected"):
        group.expand({})


def mirror(n_sites):
    """A chain of sites with one reflection that also flips the component."""
    identity = np.arange(n_sites)
    return SymmetryGroup(
        translations=identity[None],
        rotations=np.array([[[1.0]], [[-1.0]]]),
        permutations=np.stack([identity, identity[::-1]]),
        cells=lattice_symmetry((1, n_sites)).cells,
    )


def test_a_reflection_made_by_hand():
    """M_ij and M_(n-1-i)(n-1-j) are averaged; the sign of the component cancels."""
    matrix = np.array([[4.0, 1.0, 0.0], [1.0, 6.0, 3.0], [0.0, 3.0, 2.0]])
    expected = np.array([[3.0, 2.0, 0.0], [2.0, 6.0, 2.0], [0.0, 2.0, 3.0]])
    np.testing.assert_allclose(mirror(3).average(matrix), expected)


def test_a_reflection_of_plane_vectors_removes_the_mixed_terms():
    """x -> -x at a single site: the force constant K_xy must vanish."""
    one = np.zeros((1, 1), dtype=int)
    group = SymmetryGroup(
        translations=one,
        rotations=np.array([np.eye(2), np.diag([-1.0, 1.0])]),
        permutations=np.concatenate([one, one]),
        cells=lattice_symmetry((1, 1)).cells,
    )
    found = group.average(np.array([[2.0, 0.7], [0.7, 3.0]]))
    np.testing.assert_allclose(found, np.diag([2.0, 3.0]))


def low_symmetry(rng):
    cell = np.array([[4.0, 0.0, 0.0], [0.7, 4.4, 0.0], [0.3, -0.6, 5.1]])
    positions = np.array([(0.1, 0.0, 0.0), (0.5, 0.43, 0.08), (0.23, 0.81, 0.6)]) @ cell
    return positions + 0.05 * rng.normal(size=(3, 3)), cell


def test_a_crystal_without_symmetry(rng):
    positions, cell = low_symmetry(rng)
    group = crystal_symmetry(positions, cell, ("A", "B", "A"))
    assert group.order == 1
    assert group.representatives() == [0, 1, 2]
    matrix = rng.normal(size=(9, 9))
    np.testing.assert_allclose(group.average(matrix), 0.5 * (matrix + matrix.T))


def test_doubling_a_cell_adds_one_translation(rng):
    positions, cell = low_symmetry(rng)
    doubled = np.concatenate([positions, positions + cell[1]])
    group = crystal_symmetry(doubled, cell * np.array([[1.0], [2.0], [1.0]]), ("A", "B", "A") * 2)
    assert group.order == 2
    assert group.cells.shape == (1, 2, 1)


def test_species_break_symmetry():
    """Rock salt: fcc's translations by the odd half vectors exchange the two kinds."""
    grid = np.array(list(product(range(2), repeat=3)))
    species = tuple("AB"[i] for i in grid.sum(1) % 2)
    same = crystal_symmetry(1.0 * grid, 2.0 * np.eye(3), ("A",) * 8)
    salt = crystal_symmetry(1.0 * grid, 2.0 * np.eye(3), species)
    assert same.order == 2 * salt.order


def test_overlapping_atoms_are_refused():
    with pytest.raises(InputError, match=r"structure\.file"):
        crystal_symmetry(np.zeros((2, 3)), np.eye(3), ("A", "A"))
