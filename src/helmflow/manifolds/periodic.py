"""The periodic box of a crystal."""

import itertools

import torch
from torch import Tensor

from helmflow.errors import InputError
from helmflow.manifolds.torus import wrap
from helmflow.shapes import Particles


class PeriodicCell:
    """Space repeated along three vectors, the rows of ``matrix`` (3, 3)."""

    def __init__(self, matrix: Tensor) -> None:
        matrix = torch.as_tensor(matrix, dtype=torch.float64)
        if matrix.shape != (3, 3):
            raise InputError("cell", "three vectors, shape (3, 3)", tuple(matrix.shape))
        if not torch.isfinite(matrix).all() or torch.linalg.det(matrix).abs() < 1e-12:
            raise InputError("cell", "three independent finite vectors", matrix.tolist())
        self.matrix = matrix

    @property
    def volume(self) -> float:
        """Volume of one cell."""
        return float(torch.linalg.det(self.matrix).abs())

    @property
    def heights(self) -> Tensor:
        """Distances (3,) between opposite faces: volume over face area."""
        return 1 / torch.linalg.inv(self.matrix).norm(dim=0)

    @property
    def is_orthorhombic(self) -> bool:
        """True when the vectors lie along x, y and z."""
        return bool(torch.equal(self.matrix, torch.diag(self.matrix.diagonal())))

    def wrap(self, x: Particles) -> Particles:
        """Positions moved by whole cell vectors to fractional coordinates in [0, 1)."""
        matrix = self.matrix.to(x)
        return wrap(x @ torch.linalg.inv(matrix), 1.0) @ matrix

    def minimum_image(self, d: Particles) -> Particles:
        """Vectors moved by whole cell vectors to their shortest form.

        Exact for orthorhombic cells. In a slanted cell the 27 images around the rounded one are
        searched, which is exact for every cell whose vectors are not far longer than needed.
        """
        matrix = self.matrix.to(d)
        d = d - (d @ torch.linalg.inv(matrix)).round() @ matrix
        if self.is_orthorhombic:
            return d
        shifts = torch.tensor(list(itertools.product((0, -1, 1), repeat=3))).to(d) @ matrix
        images = d.unsqueeze(-2) + shifts
        best = images.detach().square().sum(-1).argmin(-1)
        return torch.take_along_dim(images, best[..., None, None], dim=-2).squeeze(-2)
