"""Compiled kernels kept on disk, until any source that they may contain changes.

Numba compares only the file of the kernel itself with what it kept. A kernel also contains what
it calls, so the names of the files here hold a digest of every source of this package and of the
functions of other files that a kernel is made from. Files of another version are never opened.
"""

import hashlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from numba import njit
from numba.core.caching import FunctionCache

from helmflow.kernels.simd import INNER


class SourceCache(FunctionCache):
    """Numba's cache of a kernel whose name says what it was compiled from.

    Numba would also compare what a closure holds, and compiled functions are never equal.
    """

    def _index_key(self, signature: Any, codegen: Any) -> tuple:
        return signature, codegen.magic_tuple()


def digest_of(*parts: Callable) -> str:
    """Twelve digits for the sources of this package, and ``parts`` with their files."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), *map(Path, map(inspect.getfile, parts))]
    names = "".join(f"{part.__module__}.{part.__qualname__}" for part in parts)
    sources = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(names.encode() + sources).hexdigest()[:12]


def entry(kernel: Callable, *parts: Callable) -> Any:
    """Compile a kernel that Python calls, and keep it on disk.

    ``parts``: the plain functions it is a closure over. One that is a closure itself is compiled
    anew in every process, for what it holds has no text to compare.
    """
    compiled = cast(Any, njit(**INNER)(kernel))
    if all(part.__closure__ is None for part in parts):
        kernel.__qualname__ = f"{kernel.__qualname__}.{digest_of(*parts)}"
        compiled._cache = SourceCache(kernel)
    return compiled
