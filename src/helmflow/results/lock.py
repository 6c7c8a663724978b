"""One process at a time in a run directory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helmflow.errors import InputError

LOCK = ".lock"
"""Held by the process that computes."""


@contextmanager
def working_in(path: Path) -> Iterator[None]:
    """Hold a run directory, made if need be; one that the block leaves empty is removed.

    The system takes the lock from a process that dies. Raises ``InputError("out", ...)`` where
    another one holds it, and for a directory that cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError as error:
        raise InputError("out", "a new or empty directory", f"{path}, in use") from error
    except OSError as error:
        raise InputError("out", "a directory that can be written", error) from error
    try:
        if not (_locked(lock) and _is_there(path / LOCK, lock)):
            expected = "a directory in which no other process is at work"
            raise InputError("out", expected, f"{path}, in use by a running one")
        try:
            yield
        finally:
            (path / LOCK).unlink(missing_ok=True)
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
    finally:
        os.close(lock)


def _locked(descriptor: int) -> bool:
    """Whether no other process holds the lock.

    Where there are no such locks (Windows, some network disks) nobody is known to.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return True
    return True


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether the file that was locked is not one that its last holder has just removed."""
    return path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor))
