"""Independent normal variables."""

import math
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import require_event
from helmflow.densities.base import Density, require_count
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


@final
class DiagonalNormal(Density):
    """Independent normal variables of given mean and standard deviation.

    ``log p(x) = -sum [((x - mean)/scale)^2 / 2 + log scale + log(2 pi)/2]``; ``mean`` and
    ``scale`` have the shape of one event, every scale is positive.
    """

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        if mean.shape != scale.shape:
            raise InputError("scale", f"shape {tuple(mean.shape)}", tuple(scale.shape))
        if not bool((torch.isfinite(scale) & (scale > 0)).all()):
            raise InputError("scale", "finite positive numbers", scale.tolist())
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    mean: Tensor
    scale: Tensor

    def log_prob(self, x: Configs) -> Values:
        require_event(x, self.mean.shape)
        return self._log_prob_of_standard((x - self.mean) / self.scale)

    def sample_and_log_prob(self, n: int, generator: torch.Generator) -> tuple[Configs, Values]:
        require_count(n)
        z = torch.randn(
            (n, *self.mean.shape),
            generator=generator,
            dtype=self.mean.dtype,
            device=generator.device,
        ).to(self.mean.device)
        return self.mean + self.scale * z, self._log_prob_of_standard(z)

    def _log_prob_of_standard(self, z: Configs) -> Values:
        constant = 0.5 * math.log(2.0 * math.pi) * self.mean.numel() + self.scale.log().sum()
        return -0.5 * z.flatten(1).square().sum(1) - constant
