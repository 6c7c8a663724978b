"""Files that are either the old ones or the new ones, whenever the process dies."""

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; a reader, or a crash, sees the old or the new file, whole.

    The bytes go to a new hidden file in the same folder, whose name nobody can foresee, reach the
    disk, and only then take the name. A failure leaves nothing; ``remove_temporaries`` clears what
    a killed process left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{secrets.token_hex(8)}.tmp"
    try:
        with open(temporary, "xb") as file:  # a file that is there, or a link, is not opened
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
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
