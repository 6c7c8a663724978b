"""Potential energies, in the units of their system."""
