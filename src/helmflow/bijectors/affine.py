"""Linear maps: element by element, dense, or a mere change of volume or of temperature."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from helmflow.bijectors.base import Bijector, TwoWay, require_event
from helmflow.errors import InputError
from helmflow.shapes import Configs, Particles, Values


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


@final
class VolumeScaling(TwoWay):
    """Carries particles, or whole molecules, from one box to a larger or smaller one.

        y_i = x_i + (s - 1) c_m(i),   log|det| = 3 M ln s,   s = (V_B / V_A)^(1/3)

    ``c_m`` is the mean position of molecule m and M their number; molecules keep their shape.
    ``molecules`` lists the particles of each, in unbroken coordinates; by default every particle
    is one and positions simply scale. Positions are (batch, n, 3). Raises ``InputError`` for a
    scale that is not positive or molecules that do not partition the particles.
    """

    name = "volume scaling"

    def __init__(
        self, scale: float, n_particles: int, molecules: Sequence[Sequence[int]] | None = None
    ) -> None:
        super().__init__()
        if not 0.0 < scale < math.inf:
            raise InputError("scale", "a positive number", scale)
        molecules = molecules or [[i] for i in range(n_particles)]
        if sorted(i for m in molecules for i in m) != list(range(n_particles)):
            raise InputError("molecules", f"each of {n_particles} particles once", molecules)
        self.scale = float(scale)
        self.n_molecules = len(molecules)
        member = torch.zeros(len(molecules), n_particles, dtype=torch.float64)
        for m, particles in enumerate(molecules):
            member[m, list(particles)] = 1.0 / len(particles)
        self.register_buffer("mean", member)
        self.register_buffer("owner", (member > 0.0).to(torch.float64).T.contiguous())

    mean: Tensor
    owner: Tensor

    def directed(self, x: Particles, sign: int) -> tuple[Particles, Values]:
        scale = self.scale**sign
        centres = torch.einsum("im,mj,bjc->bic", self.owner, self.mean, x)
        log_det = 3.0 * self.n_molecules * math.log(scale)
        return x + (scale - 1.0) * centres, x.new_full((len(x),), log_det)


@final
class HarmonicScaling(TwoWay):
    """Displacements of a crystal at one temperature carried to another: exact if harmonic.

        y = (T_B / T_A)^(1/2) u,   log|det| = (n - d) ln (T_B / T_A) / 2

    u are displacements (batch, n) from the sites, of zero mean in each of the d = n_translations
    directions in which the crystal as a whole may move. Raises ``InputError`` for a ratio of
    temperatures that is not positive.
    Source: T. B. Tan, A. J. Schultz, D. A. Kofke, J. Chem. Phys. 133, 134104 (2010).
    """

    name = "harmonic scaling"

    def __init__(self, temperature_ratio: float, *, n_translations: int = 3) -> None:
        super().__init__()
        if not 0.0 < temperature_ratio < math.inf:
            raise InputError("temperature", "a positive ratio", temperature_ratio)
        self.scale = math.sqrt(temperature_ratio)
        self.n_translations = n_translations

    def directed(self, x: Configs, sign: int) -> tuple[Configs, Values]:
        dim = x.shape[1:].numel() - self.n_translations
        scale = self.scale**sign
        return scale * x, x.new_full((len(x),), dim * math.log(scale))
