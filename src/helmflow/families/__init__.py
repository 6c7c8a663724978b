"""Families of systems, and the one pipeline from a system to a result."""

from helmflow.families.registry import family_of, register
from helmflow.families.run import free_energy, run

__all__ = ["family_of", "free_energy", "register", "run"]
