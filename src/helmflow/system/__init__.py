"""Systems: physical questions, read from TOML files and true whatever method answers them."""

from helmflow.system.load import load_system
from helmflow.system.shipped import ShippedSystem, shipped_systems
from helmflow.system.system import Reference, System, Units

__all__ = ["Reference", "ShippedSystem", "System", "Units", "load_system", "shipped_systems"]
