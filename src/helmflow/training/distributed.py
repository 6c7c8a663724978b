"""Gradients of batches in pieces, by one process or by several (``torchrun``).

Outside a process group every function does what it does for one rank.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, distributed, nn

from helmflow.errors import InputError
from helmflow.streams import stream


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


Loss = Callable[[int, Generator], Tensor]
"""Mean loss of n fresh samples, differentiable in the parameters."""


@dataclass(frozen=True)
class BatchGradient:
    """Mean loss of a batch and the norm of its gradient, which is left in ``parameter.grad``."""

    loss: float
    norm: float
    micro_batch: int


def batch_gradient(
    loss: Loss, parameters: Sequence[nn.Parameter], batch: int, micro_batch: int, seed: int
) -> BatchGradient:
    """Gradient of the mean loss over a batch, in pieces of at most ``micro_batch`` samples.

    Piece k draws from its own generator, a function of ``seed`` and k, and ranks take pieces in
    turn: the result depends on the size of the pieces, and on the number of ranks only by
    rounding. When memory runs out on any rank, all start again with pieces of half the size.
    Raises ``InputError`` when a single sample does not fit.
    """
    while True:
        for p in parameters:
            p.grad = None
        try:
            total, full = _accumulate(loss, batch, micro_batch, seed), False
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            total, full = 0.0, True
        if not any_rank(full):
            return _reduced(parameters, total, micro_batch)
        if micro_batch == 1:
            raise InputError("batch", "samples that fit into memory", "not even one does")
        micro_batch = (micro_batch + 1) // 2


def _accumulate(loss: Loss, batch: int, micro_batch: int, seed: int) -> float:
    rank, ranks = rank_and_ranks()
    total = 0.0
    for k, start in enumerate(range(0, batch, micro_batch)):
        if k % ranks == rank:
            n = min(micro_batch, batch - start)
            part = loss(n, stream(seed, f"micro-batch {k}")) * (n / batch)
            part.backward()
            total += part.item()
    return total


def _reduced(parameters: Sequence[nn.Parameter], total: float, micro_batch: int) -> BatchGradient:
    gradients: list[Tensor] = []
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        gradients.append(p.grad)
    summed = torch.tensor(total, dtype=torch.float64)
    sum_over_ranks([*gradients, summed])
    norms = torch.stack([gradient.norm().double() for gradient in gradients])
    return BatchGradient(summed.item(), norms.norm().item(), micro_batch)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return "can't allocate memory" in text or "not enough memory" in text
