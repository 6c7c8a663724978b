"""Shards of a calculation as files in a folder."""

import hashlib
import io
import re
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from helmflow.errors import InputError
from helmflow.families.two_states.shards import Shard
from helmflow.results import own_version
from helmflow.training.atomic import write_atomically

NAME = re.compile(r"shard-(\d+)-of-(\d+)\.npz")
DAMAGED = (OSError, ValueError, TypeError, EOFError, KeyError, NotImplementedError, BadZipFile)
VERSION, DIGEST = "helmflow", "sha256"


def save_shard(folder: Path, shard: Shard) -> Path:
    """Write a shard to its own file, whole or not at all; returns the path.

    Raises InputError where that holds another one.
    """
    i, n = (int(k) for k in shard["part"])
    path = folder / f"shard-{i:04d}-of-{n:04d}.npz"
    if path.exists() and _digest_of(_read(path)) != _digest_of(shard):
        raise InputError("out", "a folder for the shards of one calculation", f"another {path}")
    buffer = io.BytesIO()
    marks = {VERSION: np.array(own_version()), DIGEST: np.array(_digest_of(shard))}
    np.savez(buffer, allow_pickle=False, **shard, **marks)
    write_atomically(path, buffer.getvalue())
    return path


def load_shards(folder: Path) -> list[Shard]:
    """All shards in a folder.

    Raises InputError when there is none, or one is damaged or of another version.
    """
    shards = [_read(path) for path in sorted(folder.glob("shard-*.npz")) if _named(path)]
    if not shards:
        raise InputError("shards", "files shard-0001-of-....npz", f"none in {folder}")
    return shards


def _named(path: Path) -> bool:
    return NAME.fullmatch(path.name) is not None


def _read(path: Path) -> Shard:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            shard = {name: archive[name] for name in archive.files}
        version, digest = str(shard.pop(VERSION)), str(shard.pop(DIGEST))
    except DAMAGED as error:
        raise InputError("shards", "readable shard files", f"{path} ({error})") from error
    if version != own_version():
        raise InputError("shards", f"shards of helmflow {own_version()}", f"{path}, of {version}")
    if digest != _digest_of(shard):
        raise InputError("shards", "the contents that were written", f"{path}, damaged")
    return shard


def _digest_of(shard: Shard) -> str:
    """Of everything in it: a zip file's own sums are made anew by whoever changes it."""
    digest = hashlib.sha256()
    for name in sorted(shard):
        array = np.ascontiguousarray(shard[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
