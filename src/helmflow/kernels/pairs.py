"""The list of neighbours that the compiled kernels walk."""

from typing import NamedTuple

import numpy as np


class PairList(NamedTuple):
    """Neighbours of every atom in a reference configuration, nearest first.

    Pairs ``offsets[i] : offsets[i + 1]`` belong to atom ``i``; pair ``k`` ends at atom
    ``index[k]`` and points along ``vectors[3 k : 3 k + 3]`` of length ``distances[k]``. Zero
    distances say that the reference does not bound the true ones (nearest-image lists).
    """

    offsets: np.ndarray
    index: np.ndarray
    vectors: np.ndarray
    distances: np.ndarray
