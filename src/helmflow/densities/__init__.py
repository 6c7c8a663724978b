"""Normalised densities with exact samples."""

from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.normal import DiagonalNormal

__all__ = ["Density", "DiagonalNormal", "Flow"]
