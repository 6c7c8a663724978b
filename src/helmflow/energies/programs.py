"""Which programs a file may name: a calculator in a system file is a program that runs."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from helmflow.errors import InputError
from helmflow.tables import nearest

IN_PROCESS = ("acn", "eam", "emt", "kim", "lj", "morse", "tersoff", "tip3p", "tip4p")
"""Calculators of ASE that compute in this process; others start what a file tells them to."""

PACKAGES = (
    "chgnet",
    "deepmd",
    "fairchem",
    "mace",
    "mattersim",
    "matgl",
    "nequip",
    "orb_models",
    "quippy",
    "sevenn",
    "tblite",
    "tensorpotential",
    "torchani",
    "xtb",
)
"""Published potentials with calculators of their own."""

LISTED = (*(f"ase.calculators.{name}" for name in IN_PROCESS), *PACKAGES)

VARIABLE = "HELMFLOW_ALLOW"
"""Environment variable: packages and modules, separated by commas, that files may name too."""


def allow(packages: Sequence[str]) -> None:
    """Let the files of this process name calculators of these packages or modules, too."""
    named = os.environ.get(VARIABLE, "").split(",")
    os.environ[VARIABLE] = ",".join(name for name in (*named, *packages) if name)


def require_allowed(module: str, field: str) -> None:
    """Raise ``InputError(field, ...)`` unless a file may name this module; nothing is imported.

    Modules of Python itself are refused whatever is allowed.
    """
    asked = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    inside = any(_within(module, name) for name in (*LISTED, *asked) if name)
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise InputError(field, "a listed calculator", f"'{module}', a module of Python itself")
    if not inside:
        package = module if _within(module, "ase") else module.partition(".")[0]
        hint = nearest(module, LISTED)
        expected = f"a listed calculator{hint}, or one that you allow by --allow {package}"
        raise InputError(field, expected, f"'{module}', a program that the file would run")


def require_calculator(build: Callable[..., Any], module: str, field: str) -> None:
    """Raise ``InputError(field, ...)`` unless ``build`` is a calculator, or a function of its own.

    What a module has merely imported, such as ``os.system``, belongs to another one.
    """
    from ase.calculators.abc import GetPropertiesMixin
    from ase.calculators.calculator import BaseCalculator

    kinds = (BaseCalculator, GetPropertiesMixin)
    home = str(getattr(build, "__module__", None) or "")
    if inspect.isclass(build):
        suitable = issubclass(build, kinds)
    else:
        suitable = inspect.isfunction(build) and _within(home, module.partition(".")[0])
    if not suitable:
        expected = f"a calculator class of ASE, or a function of {module}"
        name = getattr(build, "__qualname__", type(build).__name__)
        raise InputError(field, expected, f"'{home}.{name}'")
    require_allowed(home, field)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
