"""Features that conditioner networks see."""

import math

import torch
from torch import Tensor


def circular_features(x: Tensor, n_frequencies: int) -> Tensor:
    """cos and sin of 2 pi k x, k = 1 ... n_frequencies, of numbers on the circle [0, 1).

    x (..., d) to (..., 2 d n_frequencies), with period 1 in every component of x.
    """
    k = torch.arange(1, n_frequencies + 1, dtype=x.dtype, device=x.device)
    angle = (2.0 * math.pi) * (x.unsqueeze(-1) * k).flatten(-2)
    return torch.cat([angle.cos(), angle.sin()], -1)
