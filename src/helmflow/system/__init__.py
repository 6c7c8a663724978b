"""Systems: physical questions, read from TOML files and true whatever method answers them."""

from helmflow.system.load import load_system, plain_system, register_kind
from helmflow.system.schema import SystemTable
from helmflow.system.shipped import ShippedSystem, shipped_systems
from helmflow.system.system import Reference, System, Units

__all__ = [
    "Reference",
    "ShippedSystem",
    "System",
    "SystemTable",
    "Units",
    "load_system",
    "plain_system",
    "register_kind",
    "shipped_systems",
]
