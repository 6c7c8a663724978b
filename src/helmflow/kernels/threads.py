"""Chunks of a batch on a pool of threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

from helmflow.kernels.simd import LANES


def over_chunks(kernel: Callable[[int, int], None], batch: int) -> None:
    """Call ``kernel(start, stop)`` on consecutive pieces that cover ``range(batch)``.

    Uses ``torch.get_num_threads()`` threads; the kernel must release the interpreter lock and
    write only its own rows. Pieces start on whole blocks of lanes, so every row shares its block
    with the same rows, and gives the same bits, for any number of threads.
    """
    workers = torch.get_num_threads()
    blocks = -(-batch // LANES)
    if workers == 1 or blocks < 2:
        kernel(0, batch)
        return
    pieces = min(blocks, 4 * workers)
    edges = [min(batch, LANES * (blocks * k // pieces)) for k in range(pieces + 1)]
    with ThreadPoolExecutor(min(workers, pieces)) as pool:
        for done in [pool.submit(kernel, *edge) for edge in pairwise(edges)]:
            done.result()
