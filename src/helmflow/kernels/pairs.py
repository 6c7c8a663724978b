"""What kernels of crystals read and fill: the list of neighbours, and arrays of results."""

from typing import NamedTuple

import numpy as np


class PairList(NamedTuple):
    """Neighbours of every atom in a reference configuration, nearest first.

    Pairs ``offsets[i] : offsets[i + 1]`` belong to atom ``i``; pair ``k`` ends at atom
    ``index[k]`` and points along ``vectors[3 k : 3 k + 3]``, at least ``distances[k]`` long. Zero
    distances say that the reference does not bound the true ones (nearest-image lists). ``box``
    is None, or three lengths: every pair vector is then rounded to its nearest image.
    """

    offsets: np.ndarray
    index: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray
    box: np.ndarray | None = None


class Energies(NamedTuple):
    """Energies (B,), gradients (B, 3n) or (B, 0), and largest squared displacements (B,)."""

    energy: np.ndarray
    gradient: np.ndarray
    extent: np.ndarray


class Traces(NamedTuple):
    """tr(C H) (B,) of a covariance and the Hessian, and largest squared displacements (B,)."""

    trace: np.ndarray
    extent: np.ndarray


def sorted_pairs(
    n: int, first: np.ndarray, second: np.ndarray, vectors: np.ndarray, distances: np.ndarray
) -> PairList:
    """The list of ``n`` atoms from pairs in any order."""
    # Within a shell by index, so that memory is read in order. Rounded down, distances of one
    # shell are equal and still bound the true ones.
    distances = np.floor(distances * 2.0**20) / 2.0**20
    order = np.lexsort((second, distances, first))
    counts = np.bincount(first.astype(np.int64), minlength=n)
    return PairList(
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        index=second[order].astype(np.int32),
        vectors=np.ascontiguousarray(vectors[order], dtype=np.float64).reshape(-1),
        distances=distances[order].astype(np.float64),
    )


def both_ends(pairs: PairList) -> PairList:
    """The same pairs, listed from both of their ends."""
    n = len(pairs.offsets) - 1
    first = np.repeat(np.arange(n), np.diff(pairs.offsets))
    vectors = pairs.vectors.reshape(-1, 3)
    twice = sorted_pairs(
        n,
        np.concatenate([first, pairs.index]),
        np.concatenate([pairs.index, first]),
        np.concatenate([vectors, -vectors]),
        np.tile(pairs.distances, 2),
    )
    return twice._replace(box=pairs.box)


def select_pairs(pairs: PairList, reach: float) -> PairList:
    """The pairs no longer than ``reach``."""
    within = pairs.distances <= reach
    return PairList(
        offsets=np.concatenate([[0], np.cumsum(within)])[pairs.offsets],
        index=pairs.index[within],
        vectors=pairs.vectors.reshape(-1, 3)[within].reshape(-1),
        distances=pairs.distances[within],
        box=pairs.box,
    )
