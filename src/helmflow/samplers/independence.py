"""Metropolis sampling with independent proposals, for example from a flow."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from helmflow.errors import InputError
from helmflow.estimators.inputs import as_log_weights


@dataclass(frozen=True, eq=False)
class IndependenceChain:
    """A Markov chain over proposals: step t holds proposal ``index[t]``.

    ``index`` (n,) int64 and ``accepted`` (n,) bool; ``acceptance`` is counted from the second
    proposal on, because the first is always taken. ``tau_acc`` is the integrated
    autocorrelation time due to rejections (1/2 if none), ``longest_rejection`` the longest run
    of rejected steps.
    """

    index: Tensor
    accepted: Tensor
    acceptance: float
    tau_acc: float
    longest_rejection: int


def independence_metropolis(log_w: ArrayLike, generator: torch.Generator) -> IndependenceChain:
    """Run Metropolis over n independent proposals with log weights log_w (n,), in order.

    A proposal replaces the current state with probability ``min(1, exp(log_w' - log_w))``,
    ``log_w = log p - log q`` up to a constant; the chain leaves p unchanged. Weight zero
    (-inf) is never accepted after a state of positive weight. Take configurations as
    ``x[chain.index]``. Raises InputError for NaN, +inf, or fewer than two proposals.
    Source: M. S. Albergo, G. Kanwar, P. E. Shanahan, doi:10.1103/PhysRevD.100.034515.
    """
    weights = as_log_weights("log_w", log_w)
    n = weights.size
    if n < 2:
        raise InputError("log_w", "at least 2 proposals", n)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
    log_u = torch.log1p(-uniform).tolist()  # 1 - u is in (0, 1]: its logarithm is finite
    proposals = weights.tolist()
    index = [0] * n
    current = proposals[0]
    for t in range(1, n):
        proposed = proposals[t]
        # A state of weight zero is always left.
        if current == -math.inf or log_u[t] < proposed - current:
            current = proposed
            index[t] = t
        else:
            index[t] = index[t - 1]
    return _chain(np.asarray(index))


def _chain(index: np.ndarray) -> IndependenceChain:
    n = index.size
    accepted = index == np.arange(n)
    starts = np.flatnonzero(accepted)
    rejections = np.diff(np.append(starts, n)) - 1
    return IndependenceChain(
        index=torch.from_numpy(index),
        accepted=torch.from_numpy(accepted),
        acceptance=float(accepted[1:].mean()),
        tau_acc=_tau_acc(rejections, n),
        longest_rejection=int(rejections.max()),
    )


def _tau_acc(rejections: np.ndarray, n: int) -> float:
    """``1/2 + sum_t rho(t)``, rho(t) the frequency of t rejections in a row.

    A run of l rejections holds ``max(l - t + 1, 0)`` windows of length t.
    """
    histogram = np.bincount(rejections).astype(np.float64)
    at_least = np.cumsum(histogram[::-1])[::-1]
    windows = np.cumsum(at_least[::-1])[::-1][1:]
    lag = np.arange(1, windows.size + 1)
    return 0.5 + float((windows / (n - lag)).sum())
