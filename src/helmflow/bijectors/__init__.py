"""Invertible maps with their log-determinants."""

from helmflow.bijectors.affine import Affine, DenseAffine
from helmflow.bijectors.base import Bijector, Chain, Identity, Inverse

__all__ = ["Affine", "Bijector", "Chain", "DenseAffine", "Identity", "Inverse"]
