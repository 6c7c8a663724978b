"""Runs that are computed in one go: finished, or as if they had never been started."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helmflow.errors import InputError
from helmflow.results.directory import LOCK, RunDirectory

FILES = frozenset(
    {"run.json", "settings.toml", "flow.safetensors", "work.npz", "report.html", LOCK}
)
"""What such a run may leave when it is killed; with ``result.json`` it has finished."""


@contextmanager
def in_one_go(
    path: Path, settings_text: str, digest: str, *, system: str = ""
) -> Iterator[RunDirectory]:
    """A new run directory that nothing is left of unless the block writes a result.

    As `RunDirectory.create`, but what a killed process left of such a run gives way. Raises
    ``InputError("out", ...)`` for a directory that holds anything else, a result among it, or in
    which another process is at work.
    """
    if not _left_by_a_killed_run(path):
        RunDirectory.refuse_used(path, resumable=False)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise InputError("out", "a directory that can be written", error) from error
    try:
        if not _locked(lock):
            raise InputError("out", "a new or empty directory", f"{path}, in use by a running one")
        if _left_by_a_killed_run(path):
            _clear(path)
        try:
            yield RunDirectory.create(path, settings_text, digest, system=system, resumable=False)
        finally:
            if not (path / "result.json").is_file():
                _clear(path)
            (path / LOCK).unlink(missing_ok=True)
            if not any(path.iterdir()):
                path.rmdir()
    finally:
        os.close(lock)


def _left_by_a_killed_run(path: Path) -> bool:
    """Whether ``path`` holds such a run without a result, and nothing that is not the run's."""
    try:
        started = json.loads((path / "run.json").read_text())
        names = {entry.name for entry in path.iterdir()}
    except (OSError, ValueError):
        return False
    mine = isinstance(started, dict) and started.get("resumable") is False
    return mine and all(name in FILES or name.endswith(".tmp") for name in names)


def _clear(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name != LOCK and (entry.name in FILES or entry.name.endswith(".tmp")):
            entry.unlink()


def _locked(descriptor: int) -> bool:
    """Whether no other process holds the lock, which the system takes from one that dies.

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
