"""Several processes that train one flow (``torchrun``).

Outside a process group every function does what it does for one rank.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn


def rank_and_ranks() -> tuple[int, int]:
    """Number of this process and number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


@contextmanager
def torchrun_group() -> Iterator[int]:
    """The process group that ``torchrun`` asks for, within the block; yields this rank.

    Without ``torchrun`` (no WORLD_SIZE in the environment, or 1) nothing is set up and the rank
    is 0.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or distributed.is_initialized():
        yield rank_and_ranks()[0]
        return
    distributed.init_process_group("gloo")
    try:
        yield distributed.get_rank()
    finally:
        distributed.destroy_process_group()


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace every tensor by its sum over ranks, one message per dtype."""
    if rank_and_ranks()[1] == 1:
        return
    for dtype in sorted({t.dtype for t in tensors}, key=str):
        same = [t for t in tensors if t.dtype == dtype]
        flat = torch.cat([t.flatten() for t in same])
        distributed.all_reduce(flat)
        for t, part in zip(same, flat.split([t.numel() for t in same]), strict=True):
            t.copy_(part.view_as(t))


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on at least one rank."""
    if rank_and_ranks()[1] == 1:
        return flag
    count = torch.tensor(float(flag))
    distributed.all_reduce(count)
    return bool(count > 0)


def share_parameters(module: nn.Module) -> None:
    """Give every rank the parameters of rank 0."""
    if rank_and_ranks()[1] == 1:
        return
    for p in module.parameters():
        distributed.broadcast(p.detach(), 0)
