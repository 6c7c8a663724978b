"""Files that are either the old ones or the new ones, whenever the process dies."""

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; a reader, or a crash, sees the old or the new file, whole.

    The bytes go to a hidden temporary file in the same folder, reach the disk, and only then take
    the name. ``remove_temporaries`` clears what a killed process left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def remove_temporaries(folder: Path) -> None:
    """Delete the temporary files that a killed writer left in ``folder`` and below."""
    for temporary in folder.rglob(".*.tmp"):
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself survive a power cut, where the platform can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
