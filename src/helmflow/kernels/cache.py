"""Compiled kernels kept on disk, until any source that they may contain changes.

Numba compares only the file of the kernel itself with what it kept. A kernel also contains what
it calls, so the names of the files here hold a digest of every source of this package and of the
functions of other files that a kernel is made from. Files of another version are never opened.
"""

import hashlib
import inspect
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from numba import config, njit
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
        try:
            compiled._cache = SourceCache(kernel)
        except RuntimeError:  # neither the package nor a home can be written
            cast(Any, config).CACHE_DIR = private_folder()
            compiled._cache = SourceCache(kernel)
    return compiled


def private_folder() -> str:
    """A folder for temporary files that nobody else can write: what lies there is executed."""
    folder = Path(tempfile.gettempdir()) / f"helmflow-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return tempfile.mkdtemp(prefix="helmflow-")
    mine = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    if mine and not found.st_mode & 0o077:
        return str(folder)
    return tempfile.mkdtemp(prefix="helmflow-")
