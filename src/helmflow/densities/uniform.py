"""The uniform density of a compact manifold."""

from typing import final

from helmflow.densities.reference import UniformAndNormal
from helmflow.errors import InputError
from helmflow.manifolds.base import Manifold


@final
class Uniform(UniformAndNormal):
    """``log p = -log volume``: Haar measure of tori and rotations, surface measure of spheres.

    Raises InputError for a manifold of infinite volume, and for points that are not on it.
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__(manifold)
        if not manifold.compact:
            raise InputError("manifold", "a compact one", repr(manifold))
