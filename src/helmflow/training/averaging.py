"""Running averages of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn


@final
class WeightAverage:
    """Exponential moving average of a module's parameters.

        a <- d a + (1 - d) w,   d = min(decay, (1 + t)/(10 + t)) at update t = 0, 1, ...

    The smaller d at the beginning forgets the initial weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take the module's present weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, p in module.named_parameters():
            self.weights[name].lerp_(p, 1.0 - decay)

    @torch.no_grad()
    def load_into(self, module: nn.Module) -> None:
        """Give the module the averaged weights."""
        for name, p in module.named_parameters():
            p.copy_(self.weights[name])

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with averaged weights inside the block, with its own ones afterwards."""
        trained = {name: p.detach().clone() for name, p in module.named_parameters()}
        self.load_into(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in module.named_parameters():
                    p.copy_(trained[name])

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        return {**self.weights, "#updates": torch.tensor(self.updates)}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``tensors`` returned."""
        self.updates = int(tensors["#updates"])
        for name, weight in self.weights.items():
            weight.copy_(tensors[name])
