"""Runs that are computed in one go: finished, or as if they had never been started."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helmflow.results.directory import RunDirectory
from helmflow.results.lock import LOCK, working_in

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
    with working_in(path):
        if _left_by_a_killed_run(path):
            _clear(path)
        try:
            yield RunDirectory.create(path, settings_text, digest, system=system, resumable=False)
        finally:
            if not (path / "result.json").is_file():
                _clear(path)


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
