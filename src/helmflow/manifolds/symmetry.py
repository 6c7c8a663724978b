"""Symmetries of a periodic arrangement of sites, and averages of matrices over them."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helmflow.errors import InputError
from helmflow.manifolds.cells import CellGrid

Array = np.ndarray
Permute = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class SymmetryGroup:
    """A group acting on sites by permutation and on the d components at each site by rotation.

    Split into pure translations and one representative per point operation, because averaging
    over the product of the two costs only their sum.

    translations: (n_t, n) site j goes to translations[t, j].
    rotations: (n_r, d, d) and permutations: (n_r, n): component and site action of each coset.
    cells: the translations along the axes of the period, as a grid of equal cells.
    """

    translations: Array
    rotations: Array
    permutations: Array
    cells: CellGrid

    @property
    def order(self) -> int:
        """Number of operations."""
        return len(self.translations) * len(self.rotations)

    def representatives(self) -> list[int]:
        """One site from every orbit of the whole group."""
        orbits = self._orbit_of_translations()
        first_sites: list[int] = []
        reached: set[int] = set()
        for site in np.unique(orbits):
            if site not in reached:
                first_sites.append(int(site))
                reached.update(orbits[self.permutations[:, site]].tolist())
        return first_sites

    def average(self, matrix: Array) -> Array:
        """Average of a (n d, n d) matrix over the group, exactly invariant afterwards."""
        n, d = self.translations.shape[1], self.rotations.shape[1]
        blocks = matrix.reshape(n, d, n, d)
        rows = {}
        for site in np.unique(self._orbit_of_translations()).tolist():
            total = np.zeros((d, n, d))
            for image in self.translations:
                total += blocks[image[site]][:, image]
            rows[site] = total / len(self.translations)
        return self.expand(rows)

    def expand(self, rows: dict[int, Array]) -> Array:
        """The invariant symmetric matrix with the given rows (d, n, d) of some sites.

        Every orbit needs one site; rows are averaged over the operations that map them onto each
        other, so noise and rounding do not break the symmetry.
        """
        n, d = self.translations.shape[1], self.rotations.shape[1]
        orbits = self._orbit_of_translations()
        to_origin = {}
        for image in self.translations:
            inverse = np.argsort(image)
            for site in np.unique(orbits).tolist():
                to_origin[int(image[site])] = inverse
        total = {site: np.zeros((d, n, d)) for site in np.unique(orbits).tolist()}
        count = dict.fromkeys(total, 0)
        for site, row in rows.items():
            for rotation, permutation in zip(self.rotations, self.permutations, strict=True):
                back = to_origin[int(permutation[site])]
                image = back[permutation]
                target = int(image[site])
                rotated = np.einsum("ac,cjd,ed->aje", rotation, row, rotation, optimize=True)
                total[target][:, image] += rotated
                count[target] += 1
        out = np.empty((n, d, n, d))
        for site, row in total.items():
            if not count[site]:
                raise InputError("rows", f"a site equivalent to site {site}", sorted(rows))
            row = row / count[site]
            for image in self.translations:
                out[image[site]][:, image] = row
        out = out.reshape(n * d, n * d)
        return 0.5 * (out + out.T)

    def _orbit_of_translations(self) -> Array:
        return self.translations.min(axis=0)


def crystal_symmetry(
    positions: Array, cell: Array, species: tuple[str, ...], *, tolerance: float = 1e-4
) -> SymmetryGroup:
    """Space group of a supercell, found by spglib, as a SymmetryGroup on its atoms.

    positions (n, 3) and cell (3, 3, rows are vectors) in one length unit; species one name per
    atom. spglib: doi:10.1080/27660400.2024.2384822.
    """
    import spglib
    from scipy.spatial import KDTree

    fractional = np.linalg.solve(cell.T, positions.T).T
    numbers = np.unique(np.asarray(species), return_inverse=True)[1] + 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of spglib's change of error style
        crystal = (cell.tolist(), fractional.tolist(), numbers.tolist())
        operations = spglib.get_symmetry(crystal, symprec=tolerance)
    if operations is None:
        raise InputError("structure.file", "atoms apart from one another", "overlapping atoms")
    rotations, shifts = operations["rotations"], operations["translations"]
    tree = KDTree(np.mod(fractional, 1.0) % 1.0, boxsize=1.0)
    scale = np.linalg.norm(cell, axis=1).min()

    def permutation(rotation: Array, shift: Array) -> Array:
        moved = np.mod(fractional @ rotation.T + shift, 1.0) % 1.0
        distance, image = map(np.asarray, tree.query(moved))
        if distance.max() * scale > 10 * tolerance or len(np.unique(image)) != len(image):
            raise InputError(
                "structure.file", "atoms that map onto atoms by symmetry", "a mismatch"
            )
        return image

    is_translation = (rotations == np.eye(3, dtype=int)).all(axis=(1, 2))
    translations = np.array([permutation(np.eye(3), t) for t in shifts[is_translation]])
    _, first = np.unique(rotations.reshape(len(rotations), 9), axis=0, return_index=True)
    cartesian = np.array([cell.T @ rotations[k] @ np.linalg.inv(cell.T) for k in first])
    images = np.array([permutation(rotations[k], shifts[k]) for k in first])
    cells = _axis_cells(shifts[is_translation], translations)
    return SymmetryGroup(translations, cartesian, images, cells)


def _axis_cells(shifts: Array, translations: Array) -> CellGrid:
    """The largest grid of cells whose translations run along the three axes of the supercell."""
    fraction = np.mod(shifts + 1e-6, 1.0) - 1e-6
    along = np.abs(fraction) < 1e-4
    shape = tuple(int((along.sum(1) - along[:, axis] == 2).sum()) for axis in range(3))
    step = np.rint(fraction * shape)
    on_grid = np.abs(fraction * shape - step).max(1) < 1e-3
    order = np.lexsort(np.mod(step, shape)[on_grid].T[::-1])
    images = translations[on_grid][order]
    basis = np.flatnonzero(images.min(axis=0) == np.arange(images.shape[1]))
    return CellGrid(shape, images[:, basis], 3)


def lattice_symmetry(shape: tuple[int, int], *, isotropic: bool = True) -> SymmetryGroup:
    """Translations and reflections of a periodic rectangular lattice, one real number a site.

    Rotations by 90 degrees too if the lattice is square and ``isotropic``.
    """
    rows, columns = shape
    index = np.arange(rows * columns).reshape(shape)
    translations = np.array(
        [np.roll(index, (i, j), (0, 1)).ravel() for i in range(rows) for j in range(columns)]
    )
    images = [index, index[::-1], index[:, ::-1], index[::-1, ::-1]]
    if rows == columns and isotropic:
        images += [image.T for image in images]
    permutations = np.array([image.ravel() for image in images])
    cells = CellGrid(shape, index.reshape(-1, 1), 1)
    return SymmetryGroup(translations, np.ones((len(images), 1, 1)), permutations, cells)
