"""Compiled kernels kept on disk, until any source that they may contain changes.

Numba compares only the file of the kernel itself with what it kept. A kernel also contains what
it calls, so the key here holds the text of every file of this package and, for a kernel made
from a function of some other file, of that file too.
"""

import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

from helmflow.kernels.simd import INNER


@cache
def _digest(*more: str) -> str:
    """Of the sources of this package, and of files ``more``."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), *map(Path, more)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


class SourceCache(FunctionCache):
    """Numba's cache of one kernel with a digest of all its sources in place of its bytecode."""

    def __init__(self, kernel: Callable, *parts: Callable) -> None:
        super().__init__(kernel)
        names = [f"{part.__module__}.{part.__qualname__}" for part in parts]
        self._sources = (_digest(*map(inspect.getfile, parts)), *names)

    def _index_key(self, signature: Any, codegen: Any) -> tuple:
        return signature, codegen.magic_tuple(), self._sources


def entry(kernel: Callable) -> Any:
    """Compile a kernel that Python calls, and keep it on disk."""
    compiled = njit(**INNER)(kernel)
    compiled._cache = SourceCache(kernel)
    return compiled


def entry_with(part: Callable, kernel: Callable) -> Any:
    """The same for a kernel that is a closure over the plain function ``part`` of a module.

    A ``part`` that is a closure itself is compiled anew in every process: what it holds has no
    text to compare.
    """
    name = f"{part.__module__}.{part.__qualname__}"
    # An index file of its own: numba reads all of it, and cannot where a module has gone.
    kernel.__qualname__ = f"{kernel.__name__} of {name}".replace(" ", "_")
    compiled = njit(**INNER)(kernel)
    if part.__closure__ is None:
        compiled._cache = SourceCache(kernel, part)
    return compiled
