"""Solvation of a growing sphere."""
