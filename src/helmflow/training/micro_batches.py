"""Gradients of a batch that does not fit into memory, or is spread over ranks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from helmflow.errors import InputError
from helmflow.streams import stream
from helmflow.training.distributed import any_rank, rank_and_ranks, sum_over_ranks

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
