"""Affine maps: element by element, or dense."""

from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, require_event
from helmflow.errors import InputError
from helmflow.shapes import Configs, Values


@final
class Affine(Bijector):
    """``y = shift + scale * x`` element by element, ``log_det = sum log|scale|``.

    ``scale`` and ``shift`` have the shape of one event, every scale is finite and not zero.
    """

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        if scale.shape != shift.shape:
            raise InputError("shift", f"shape {tuple(scale.shape)}", tuple(shift.shape))
        if not bool((torch.isfinite(scale) & (scale != 0)).all()):
            raise InputError("scale", "finite numbers that are not zero", scale.tolist())
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    scale: Tensor
    shift: Tensor

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        require_event(x, self.scale.shape)
        log_det = self.scale.abs().log().sum()
        return self.shift + self.scale * x, log_det.expand(x.shape[0])

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        require_event(y, self.scale.shape)
        log_det = -self.scale.abs().log().sum()
        return (y - self.shift) / self.scale, log_det.expand(y.shape[0])


@final
class DenseAffine(Bijector):
    """``y = shift + M x`` on the flattened event, ``log_det = log|det M|``.

    ``matrix`` is (d, d) and invertible, ``shift`` has the shape of one event of d numbers.
    """

    def __init__(self, matrix: Tensor, shift: Tensor) -> None:
        super().__init__()
        d = shift.numel()
        if matrix.shape != (d, d):
            raise InputError("matrix", f"shape ({d}, {d})", tuple(matrix.shape))
        if not bool(torch.isfinite(torch.linalg.slogdet(matrix).logabsdet)):
            raise InputError("matrix", "an invertible matrix", "determinant 0 or NaN")
        self.register_buffer("matrix", matrix)
        self.register_buffer("shift", shift)

    matrix: Tensor
    shift: Tensor

    def forward(self, x: Configs) -> tuple[Configs, Values]:
        require_event(x, self.shift.shape)
        y = (x.flatten(1) @ self.matrix.T).reshape(x.shape) + self.shift
        return y, torch.linalg.slogdet(self.matrix).logabsdet.expand(x.shape[0])

    def inverse(self, y: Configs) -> tuple[Configs, Values]:
        require_event(y, self.shift.shape)
        centred = (y - self.shift).flatten(1)
        x = torch.linalg.solve(self.matrix, centred.T).T.reshape(y.shape)
        return x, -torch.linalg.slogdet(self.matrix).logabsdet.expand(y.shape[0])
