"""Normalised densities with exact samples."""

from helmflow.densities.base import Density
from helmflow.densities.flow import Flow
from helmflow.densities.normal import DiagonalNormal
from helmflow.densities.phase_space import Cotangent
from helmflow.densities.uniform import Uniform, UniformAndNormal

__all__ = ["Cotangent", "Density", "DiagonalNormal", "Flow", "Uniform", "UniformAndNormal"]
