"""Pipelines from a system to a result."""

from helmflow.recipes.run import free_energy, run

__all__ = ["free_energy", "run"]
