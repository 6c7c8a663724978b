"""The neighbours of every site of a crystal, seen from equivalent frames."""

from dataclasses import dataclass

import numpy as np

from helmflow.errors import InputError
from helmflow.manifolds.symmetry import SymmetryGroup

Array = np.ndarray
_SAME = 1e-4  # of fractional coordinates and relative distances


@dataclass(frozen=True)
class SiteGraph:
    """Sites with neighbours in corresponding order, and colours that do not touch.

    neighbours: (n, k), the k sites around each site, none of its own colour.
    frames: (n, 3, 3), the rotation that takes the surroundings of site 0 to those of the site:
        neighbour j of site i lies at ``frames[i] @ offsets[j]`` from it.
    offsets: (k, 3), neighbours of site 0, nearest first.
    n_nearest: how many of them make up the first shell.
    colours: the sites of each colour; sites of one colour are translations of one another along
        the axes of the cell. Their order does not depend on the size of the crystal.
    """

    neighbours: Array
    frames: Array
    offsets: Array
    n_nearest: int
    colours: tuple[Array, ...]


def site_graph(
    positions: Array, cell: Array, symmetry: SymmetryGroup, *, reach: float
) -> SiteGraph:
    """Neighbours up to ``reach`` times the nearest distance, of other colours.

    positions (n, 3), cell (3, 3, rows are vectors). Frames and the order of neighbours follow from
    the geometry alone, so that what is learned at one size means the same at another. Raises
    ``InputError`` unless all sites are equivalent by symmetry.
    """
    if len(symmetry.representatives()) != 1:
        raise InputError(
            "structure.file",
            "a crystal with one kind of site",
            f"{len(symmetry.representatives())} kinds",
        )
    colour = _colours(positions, cell, symmetry.cells.shape)
    offsets, around = _surroundings(positions, cell, reach)
    other = colour[around] != colour[0]
    if not other.any():
        raise InputError("structure.file", "a cell with several sites", "neighbours of one colour")
    offsets, around = offsets[other], around[other]
    distance = np.linalg.norm(offsets, axis=1)
    neighbours = np.empty((len(positions), len(around)), dtype=np.int64)
    frames = np.empty((len(positions), 3, 3))
    for site, (image, rotation) in enumerate(_images_of_first(symmetry)):
        neighbours[site] = image[around]
        frames[site] = rotation
    return SiteGraph(
        neighbours=neighbours,
        frames=frames,
        offsets=offsets,
        n_nearest=int((distance < distance[0] * (1 + _SAME)).sum()),
        colours=tuple(np.flatnonzero(colour == c) for c in range(colour.max() + 1)),
    )


def _colours(positions: Array, cell: Array, shape: tuple[int, ...]) -> Array:
    """Number of the place within its cell of the grid, relative to site 0, of every site."""
    fraction = np.linalg.solve(cell.T, (positions - positions[0]).T).T * np.array(shape)
    place = np.rint(np.mod(fraction + _SAME, 1.0) / (10 * _SAME)).astype(int)
    return np.unique(place, axis=0, return_inverse=True)[1].ravel()


def _surroundings(positions: Array, cell: Array, reach: float) -> tuple[Array, Array]:
    """Offsets (k, 3) from site 0 and sites (k,) around it, by distance, then by direction."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    spacing = (abs(np.linalg.det(cell)) / len(positions)) ** (1 / 3)
    counts = np.ceil(2.0 * reach * spacing / heights).astype(int) + 1
    grid = np.stack(np.meshgrid(*(np.arange(-c, c + 1) for c in counts)), -1).reshape(-1, 3)
    offsets = (positions - positions[0])[:, None] + grid @ cell
    sites = np.broadcast_to(np.arange(len(positions))[:, None], offsets.shape[:2]).ravel()
    offsets = offsets.reshape(-1, 3)
    distance = np.linalg.norm(offsets, axis=1)
    nearest = distance[distance > _SAME * spacing].min()
    inside = (distance > _SAME * spacing) & (distance < reach * nearest * (1 + _SAME))
    offsets, sites, distance = offsets[inside], sites[inside], distance[inside]
    keys = np.rint(np.column_stack([offsets[:, ::-1], distance]) / (nearest * _SAME))
    order = np.lexsort(keys.T)
    return offsets[order], sites[order]


def _images_of_first(symmetry: SymmetryGroup) -> list[tuple[Array, Array]]:
    """For every site an operation (n,) that takes site 0 there, and its rotation (3, 3).

    Of several rotations the one that is largest in alphabetical order of its entries, which
    prefers the identity.
    """
    entries = np.rint(symmetry.rotations.reshape(-1, 9) / _SAME)
    preferred = np.lexsort(entries.T[::-1])[::-1]
    operations: dict[int, tuple[Array, Array]] = {}
    for r in preferred:
        for translation in symmetry.translations:
            image = translation[symmetry.permutations[r]]
            if int(image[0]) not in operations:
                operations[int(image[0])] = (image, symmetry.rotations[r])
    return [operations[site] for site in range(symmetry.translations.shape[1])]
