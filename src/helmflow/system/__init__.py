"""Systems: physical questions, read from TOML files and true whatever method answers them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helmflow.system.load import identity_of, load_system, plain_system, register_kind
    from helmflow.system.reference import Reference
    from helmflow.system.schema import SystemTable
    from helmflow.system.shipped import ShippedSystem, shipped_systems
    from helmflow.system.system import System, Units

__all__ = [
    "Reference",
    "ShippedSystem",
    "System",
    "SystemTable",
    "Units",
    "identity_of",
    "load_system",
    "plain_system",
    "register_kind",
    "shipped_systems",
]

_HOME = {
    "Reference": "reference",
    "ShippedSystem": "shipped",
    "System": "system",
    "SystemTable": "schema",
    "Units": "system",
    "identity_of": "load",
    "load_system": "load",
    "plain_system": "load",
    "register_kind": "load",
    "shipped_systems": "shipped",
}


def __getattr__(name: str) -> Any:
    # On first use: the list of what ships needs no torch.
    if name not in _HOME:
        raise AttributeError(f"module 'helmflow.system' has no attribute {name!r}")
    return getattr(importlib.import_module(f"helmflow.system.{_HOME[name]}"), name)
