"""Which kinds of system have a path from a Gaussian base."""

from types import MappingProxyType

from helmflow.recipes.path.crystal import Crystal
from helmflow.recipes.path.lattice import LatticeField

PROBLEMS = MappingProxyType({"crystal": Crystal, "lattice_field": LatticeField})
"""By ``System.kind``."""
