"""Neighbours of every atom of a crystal, in all periodic images or in the nearest one."""

import numpy as np
from torch import Tensor

from helmflow.errors import InputError
from helmflow.kernels.pairs import PairList
from helmflow.manifolds.periodic import PeriodicCell


def all_images(positions: Tensor, cell: PeriodicCell, cutoff: float, *, both: bool) -> PairList:
    """Every pair closer than ``cutoff`` in the infinite crystal, own images included.

    Works for any cell, smaller than the cutoff too. ``both`` lists a pair from both of its ends;
    otherwise it is listed once.
    """
    from vesin import NeighborList

    search = NeighborList(cutoff=cutoff, full_list=both)
    first, second, vectors, distances = search.compute(
        points=cell.wrap(positions).numpy(),
        box=cell.matrix.numpy(),
        periodic=True,
        quantities="ijDd",
    )
    return _sorted(len(positions), first, second, vectors, distances)


def nearest_images(positions: Tensor, *, both: bool) -> PairList:
    """Every pair of different atoms, without images: rounding finds the image later."""
    n = len(positions)
    first, second = np.nonzero(~np.eye(n, dtype=bool) if both else np.triu(np.ones((n, n)), 1))
    x = positions.numpy()
    return _sorted(n, first, second, x[second] - x[first], np.zeros(len(first)))


def _sorted(
    n: int, first: np.ndarray, second: np.ndarray, vectors: np.ndarray, distances: np.ndarray
) -> PairList:
    order = np.lexsort((distances, first))
    counts = np.bincount(first.astype(np.int64), minlength=n)
    return PairList(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        index=second[order].astype(np.int32),
        vectors=np.ascontiguousarray(vectors[order], dtype=np.float64).reshape(-1),
        distances=distances[order].astype(np.float64),
    )


def select_pairs(pairs: PairList, reach: float) -> PairList:
    """The pairs no longer than ``reach``."""
    kept = pairs.distances <= reach
    return PairList(
        offsets=np.concatenate([[0], np.cumsum(kept)])[pairs.offsets],
        index=pairs.index[kept],
        vectors=pairs.vectors.reshape(-1, 3)[kept].reshape(-1),
        distances=pairs.distances[kept],
    )


def check_separated(positions: Tensor, cell: PeriodicCell, closest: float) -> None:
    """Raise ``InputError`` if two atoms of a reference structure are closer than ``closest``."""
    distances = all_images(positions, cell, closest, both=False).distances
    if distances.size:
        raise InputError(
            "structure.file", f"atoms at least {closest:.3g} apart", f"{distances.min():.3g}"
        )
