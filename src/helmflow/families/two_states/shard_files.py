"""Shards of a calculation as files in a folder."""

import io
import re
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from helmflow.errors import InputError
from helmflow.families.two_states.shards import Shard
from helmflow.training.atomic import write_atomically

NAME = re.compile(r"shard-(\d+)-of-(\d+)\.npz")
DAMAGED = (OSError, ValueError, EOFError, KeyError, BadZipFile)


def save_shard(folder: Path, shard: Shard) -> Path:
    """Write a shard to its own file, whole or not at all; returns the path."""
    i, n = (int(k) for k in shard["part"])
    path = folder / f"shard-{i:04d}-of-{n:04d}.npz"
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **shard)
    write_atomically(path, buffer.getvalue())
    return path


def load_shards(folder: Path) -> list[Shard]:
    """All shards in a folder; ``InputError`` when there is none or one is damaged."""
    shards = []
    for path in sorted(folder.glob("shard-*.npz")):
        if not NAME.fullmatch(path.name):
            continue
        try:
            with np.load(path, allow_pickle=False) as archive:
                shards.append({name: archive[name] for name in archive.files})
        except DAMAGED as error:
            raise InputError("shards", "readable shard files", f"{path} ({error})") from error
    if any(not {"probe", "convention", "times"} <= set(shard) for shard in shards):
        raise InputError("shards", "shards of this version", f"older ones in {folder}")
    if not shards:
        raise InputError("shards", "files shard-0001-of-....npz", f"none in {folder}")
    return shards
