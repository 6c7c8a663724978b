"""A sphere that grows in a solvent."""
