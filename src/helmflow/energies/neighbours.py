"""Neighbours of every atom of a crystal, in all periodic images or in the nearest one."""

import numpy as np
from torch import Tensor

from helmflow.errors import InputError
from helmflow.kernels.pairs import PairList, sorted_pairs
from helmflow.manifolds.periodic import PeriodicCell


def all_images(positions: Tensor, cell: PeriodicCell, cutoff: float) -> PairList:
    """Every pair closer than ``cutoff`` in the infinite crystal, own images included.

    Each is listed once. Works for any cell, smaller than the cutoff too.
    """
    from vesin import NeighborList

    search = NeighborList(cutoff=cutoff, full_list=False)
    first, second, vectors, distances = search.compute(
        points=cell.wrap(positions).numpy(),
        box=cell.matrix.numpy(),
        periodic=True,
        quantities="ijDd",
    )
    return sorted_pairs(len(positions), first, second, vectors, distances)


def nearest_images(positions: Tensor) -> PairList:
    """Every pair of different atoms, once, without images: rounding finds the image later."""
    n = len(positions)
    first, second = np.triu_indices(n, 1)
    x = positions.numpy()
    return sorted_pairs(n, first, second, x[second] - x[first], np.zeros(len(first)))


def check_separated(positions: Tensor, cell: PeriodicCell, closest: float) -> None:
    """Raise ``InputError`` if two atoms of a reference structure are closer than ``closest``."""
    distances = all_images(positions, cell, closest).distances
    if distances.size:
        raise InputError(
            "structure.file", f"atoms at least {closest:.3g} apart", f"{distances.min():.3g}"
        )
