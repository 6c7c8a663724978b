"""Watching the losses of a training run."""

import math
from collections import deque
from typing import final

import torch
from torch import Tensor

BEGINNING = 20
"""Losses that later ones are compared with."""


@final
class Guard:
    """Counts steps that were skipped and knows when training has diverged.

    Diverged means that every one of the last ``patience`` losses is above all of the first
    ``BEGINNING`` ones, or that ``max_skipped`` steps in a row were not finite. Single spikes,
    which heavy-tailed works produce all the time, do neither.
    """

    def __init__(self, patience: int, max_skipped: int) -> None:
        self.max_skipped = max_skipped
        self.first: list[float] = []
        self.recent: deque[float] = deque(maxlen=patience)
        self.skipped = 0
        self.in_a_row = 0

    def record(self, loss: float, skipped: bool) -> None:
        """Take note of one step."""
        self.skipped += skipped
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        if not skipped and len(self.first) < BEGINNING:
            self.first.append(loss)
        self.recent.append(math.inf if skipped else loss)

    @property
    def complaint(self) -> str | None:
        """What has gone wrong, or None."""
        if self.in_a_row >= self.max_skipped:
            return f"{self.in_a_row} steps in a row had a loss or gradient that is not finite"
        full = len(self.recent) == self.recent.maxlen
        if full and len(self.first) == BEGINNING and min(self.recent) > max(self.first):
            return f"the last {len(self.recent)} losses are all above the first {BEGINNING}"
        return None

    @property
    def healthy(self) -> bool:
        """Whether the present state is worth keeping: finite and no worse than the beginning."""
        lately = list(self.recent)[-BEGINNING:]
        return not lately or (self.in_a_row == 0 and min(lately) <= max(self.first))

    @property
    def recent_mean(self) -> float:
        """Mean of the last (up to 20) finite losses, NaN if there are none."""
        finite = [loss for loss in list(self.recent)[-BEGINNING:] if math.isfinite(loss)]
        return sum(finite) / len(finite) if finite else math.nan

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        return {
            "first": torch.tensor(self.first, dtype=torch.float64),
            "recent": torch.tensor(list(self.recent), dtype=torch.float64),
            "counts": torch.tensor([self.skipped, self.in_a_row]),
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` returned."""
        self.first = tensors["first"].tolist()
        self.recent.clear()
        self.recent.extend(tensors["recent"].tolist())
        self.skipped, self.in_a_row = tensors["counts"].tolist()
